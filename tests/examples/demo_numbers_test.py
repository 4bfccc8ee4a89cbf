"""The whole benchmark on clips whose pixels say openly what a generator did: four grey areas.

The speech of a case is noise whose loudness is the opening; a perfect generator paints what it
hears and is told, a deaf one paints something else.
"""

import itertools
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import demo_clips, demo_rows
from benchmarks.demo_numbers import parse
from data_pipeline.world import phonemes
from ft_jax.errors import UsageError
from ft_jax.eval.instrument import Measured
from ft_jax.media import sound, video
from ft_jax.media.image import resize
from ft_jax.sampling.pipeline import Clip

FPS, FRAMES, SIDE = 23.0, 33, 16
AREAS = {
    "opening": (slice(0, 8), slice(0, 8)),
    "expression": (slice(0, 8), slice(8, 16)),
    "body": (slice(8, 16), slice(0, 8)),
    "person": (slice(8, 16), slice(8, 16)),
}
PEOPLE = 3
WAVE = np.sin(np.arange(FRAMES) * 0.7)


def painted(opening, expression: float, body: float, person: float) -> np.ndarray:
    frames = np.zeros((FRAMES, SIDE, SIDE, 3))
    values = {
        "opening": opening,
        "expression": 0.5 + 0.4 * expression * WAVE,
        "body": 0.5 + 0.4 * body * WAVE,
        "person": np.full(FRAMES, person),
    }
    for name, (rows, columns) in AREAS.items():
        frames[:, rows, columns] = np.reshape(values[name], (-1, 1, 1, 1))
    return np.rint(frames.clip(0, 1) * 255).astype(np.uint8)


def read(frames: np.ndarray, area: str) -> np.ndarray:
    rows, columns = AREAS[area]
    return frames[:, rows, columns].mean((1, 2, 3)) / 255


class Instrument:
    def measure(self, frames: np.ndarray) -> Measured:
        expression, body = read(frames, "expression"), read(frames, "body")
        tracks = {"lip_opening": read(frames, "opening")}
        tracks |= dict.fromkeys(("brow", "cheek", "lid"), expression)
        tracks |= dict.fromkeys(("head_x", "head_y", "shoulder"), body)
        return Measured(tracks, np.full((len(frames), 4), np.nan), np.ones(len(frames)))


class Encoder:
    def embed(self, frames: np.ndarray, measured: Measured) -> np.ndarray:
        person = np.rint(read(frames, "person") * PEOPLE).astype(int).clip(0, PEOPLE - 1)
        return np.eye(PEOPLE)[person]


class Pipeline:
    """Paints what it hears and is told."""

    system = types.SimpleNamespace(height=SIDE, width=SIDE, fps=FPS, frames=FRAMES)

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        self.branches = {"audio", "identity", "motion"} - set(without)

    def without(self, *branches: str) -> "Pipeline":
        return Pipeline(branches)

    def generate_batch(self, requests, progress):
        progress(1, 1)
        clips = []
        for request in requests:
            opening = loudness(request.speech) if "audio" in self.branches else WAVE * 0.2 + 0.3
            known = request.face_picture if "identity" in self.branches else None
            known = request.picture if known is None else known
            person = float(read(resize(known, SIDE, SIDE)[None], "person")[0])
            clips.append(Clip(painted(opening, request.expression, request.body, person), FPS, 1))
        return clips


def loudness(speech: np.ndarray) -> np.ndarray:
    edges = np.linspace(0, len(speech), FRAMES + 1).astype(int)
    return np.array([np.abs(speech[a:b]).mean() for a, b in itertools.pairwise(edges)])


def write_case(folder: Path, number: int) -> dict[str, object]:
    draw = np.random.default_rng(number)
    name = f"clip-{number:03d}"
    smooth = np.convolve(draw.uniform(0, 1, FRAMES + 4), np.ones(5) / 5, mode="valid")
    opening = np.clip((smooth - 0.35) * 2, 0.05, 0.9)
    opening[10:14] = 0.0
    start = "covered" if number % 4 == 0 else "open"
    person = number % PEOPLE
    shown = np.where(np.arange(FRAMES) < 9, 0.9, person / PEOPLE) if start == "covered" else None
    frames = painted(opening, 0.5, 0.5, person / PEOPLE)
    if shown is not None:
        rows, columns = AREAS["person"]
        frames[:, rows, columns] = np.rint(shown * 255).astype(np.uint8).reshape(-1, 1, 1, 1)
    samples = round(FRAMES / FPS * 16_000)
    envelope = opening[np.minimum((np.arange(samples) / 16_000 * FPS).astype(int), FRAMES - 1)]
    speech = (envelope * draw.choice([-1.0, 1.0], samples)).astype(np.float32)
    track = sound.resample(speech, 16_000, 48_000)[None]
    video.write(folder / f"{name}.mp4", frames, FPS, track.clip(-1, 1), scale=2)
    write_wav(folder / f"{name}.wav", speech)
    times = np.array([[9.5, 14.5]]) / FPS
    np.savez(
        folder / f"{name}.truth.npz",
        lip_opening=opening,
        visible=np.ones(FRAMES, bool),
        phoneme_labels=np.array([phonemes.INDEX["m"]]),
        phoneme_times=times,
    )
    paths = {"video": f"{name}.mp4", "audio": f"{name}.wav", "truth": f"{name}.truth.npz"}
    about = {"person": f"p{person}", "start": start, "caption": "", "fps": FPS}
    return {"id": name, **about, **paths}


def write_wav(path: Path, speech: np.ndarray) -> None:
    import soundfile

    soundfile.write(path, speech, 16_000, subtype="FLOAT")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    rows = [write_case(folder, number) for number in range(15)]
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Gallery(demo_clips.Gallery):
    """Without a codec: a reconstruction is the clip itself."""

    def reconstruct(self, cases, params):
        for case in cases:
            frames = video.read(case.video, (SIDE, SIDE)).frames
            self._write("codec", case, frames, FPS, sound.read(case.sound))


@pytest.fixture(scope="module")
def bench(world, tmp_path_factory) -> demo_rows.Bench:
    cases = demo_clips.read_cases(world)
    pairs = [case for case in cases if case.start == "open"]
    folder = tmp_path_factory.mktemp("clips")
    fakes: list[Any] = [Pipeline(), Instrument(), Encoder()]
    return demo_rows.Bench(
        gallery=Gallery(folder, fakes[0], fakes[1], seed=0),
        pairs=pairs,
        hidden=[case for case in cases if case.start == "covered"],
        swept=pairs[:3],
        others=cases,
        codec={},
        encoder=fakes[2],
    )


def by_name(rows) -> dict[str, float]:
    return {row.name: row.interval.value for row in rows}


def test_a_generator_that_hears_gets_the_lips(bench):
    found = by_name(demo_rows.generated_lips(bench))
    assert found["lips"] > 0.95 and found["lips_of_codec"] > 0.95
    assert found["lips_above_other_speech"] > 0.6


def test_the_base_model_does_not_follow_the_speech(bench):
    assert abs(by_name(demo_rows.base(bench))["base"]) < 0.3


def test_true_clips_and_reconstructions_are_measured_exactly(bench):
    found = by_name(demo_rows.instrument(bench))
    assert found["instrument_true"] > 0.99 and found["instrument_codec"] > 0.99
    assert found["instrument_true_colours"] == 0  # no face boxes: cannot be measured, counts as 0


def test_closures_are_found_where_the_speech_has_them(bench):
    found = by_name(demo_rows.closure(bench))
    assert found["closure"] == pytest.approx(1.0) and found["closure_rate"] == 1.0
    assert found["closure_elsewhere"] == 0.0


def test_each_sweep_moves_its_own_intensity_only(bench):
    found = by_name(demo_rows.sweep(bench))
    for kind in demo_rows.KINDS:
        assert found[f"{kind}_rank"] > 0.95 and found[f"{kind}_rank_within"] > 0.95
        assert found[f"{kind}_own"] > 20
        assert found[f"{kind}_other"] == pytest.approx(1.0, abs=0.05)


def test_identity_comes_from_the_other_clip(bench):
    found = by_name(demo_rows.recognised(bench))
    assert found["identity"] == 1.0 and found["identity_true"] == 1.0
    assert found["identity_without"] < 0.5


def test_generated_motion_is_as_smooth_as_true_motion(bench):
    found = by_name(demo_rows.jerk(bench))
    assert found["jerk_expression"] == pytest.approx(1.0, abs=0.05)
    assert found["jerk_body"] == pytest.approx(1.0, abs=0.05)


def test_clips_in_which_nothing_is_seen_are_not_smooth(bench, monkeypatch):
    monkeypatch.setattr(demo_rows, "measured_share", lambda found: 0.0)
    found = by_name(demo_rows.jerk(bench))
    assert found["jerk_body"] == pytest.approx(2.0)


def test_clips_are_made_once(bench, monkeypatch):
    demo_rows.base(bench)

    def fail(*_):
        raise AssertionError("made again")

    monkeypatch.setattr(Pipeline, "generate_batch", fail)
    demo_rows.base(bench)


def test_a_clip_that_cannot_be_measured_counts_as_zero(bench):
    nothing = Measured({"lip_opening": np.full(FRAMES, np.nan)}, np.zeros((FRAMES, 4)), WAVE)
    assert demo_rows.seen_in([nothing]).value == 0
    assert demo_rows.scores([nothing], bench.pairs[:1])[0] == 0
    assert demo_rows.counted([nothing], bench.pairs[:1])[0].tolist() == [0, 1]


def test_unknown_rows_and_too_few_pairs_are_refused():
    with pytest.raises(UsageError, match="'lip'"):
        parse(["--rows", "lips,lip"])
    with pytest.raises(UsageError, match="--pairs"):
        parse(["--pairs", "1"])
    assert parse([]).rows == list(demo_rows.ROWS)


def test_other_weights_have_other_clips(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("b")
    assert demo_clips.digest(one, 1) != demo_clips.digest(two, 1)
    assert demo_clips.digest(one, 1) == demo_clips.digest(one, 1) != demo_clips.digest(one, 2)
