import json
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from data_pipeline.world import corpus, source, write
from data_pipeline.world.corpus import Order


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Order:
    order = Order(out=tmp_path_factory.mktemp("corpus"), split="train", seed=4, clips=2, frames=17)
    corpus.make(order)
    return order


def rows(order: Order) -> list[dict[str, object]]:
    return [json.loads(line) for line in (order.out / "index.jsonl").read_text().splitlines()]


def test_index_lists_every_clip_with_its_facts(made: Order) -> None:
    found = rows(made)
    assert [row["id"] for row in found] == ["train-4-000000-17", "train-4-000001-17"]
    for row in found:
        assert row["person"] == f"world-{row['person_index']:03d}"
        assert row["licence"] and row["language"] == "en" and row["caption"] and row["text"]
        assert all((made.out / str(row[kind])).is_file() for kind in ("video", "audio", "truth"))


def test_video_holds_h264_and_aac_of_the_clip(made: Order) -> None:
    clip = source.clip("train", 4, 0, 17)
    path = made.out / write.paths(clip.id)["video"]
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.average_rate == 23 and audio.rate == 48_000
        assert float(video.duration * video.time_base) == pytest.approx(17 / 23, abs=1e-3)
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4


def test_sound_file_is_the_clip_sample_by_sample(made: Order) -> None:
    clip = source.clip("train", 4, 1, 17)
    with wave.open(str(made.out / write.paths(clip.id)["audio"])) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(samples, clip.audio)


def test_complete_clips_are_not_made_again(made: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    original = corpus.make_clip

    def counted(order: Order, number: int) -> None:
        numbers.append(number)
        original(order, number)

    monkeypatch.setattr(corpus, "make_clip", counted)
    corpus.make(made)
    assert numbers == []
    next((made.out / "clips").glob("*000001*.truth.npz")).unlink()
    corpus.make(made)
    assert numbers == [1]
    assert not list(made.out.rglob("part-*"))


def test_an_interrupted_run_indexes_what_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(out=tmp_path, split="train", seed=4, clips=2, frames=17)
    original = corpus.make_clip

    def stopped(order: Order, number: int) -> None:
        if number == 1:
            raise KeyboardInterrupt
        original(order, number)

    monkeypatch.setattr(corpus, "make_clip", stopped)
    with pytest.raises(KeyboardInterrupt):
        corpus.make(order)
    assert [row["id"] for row in rows(order)] == ["train-4-000000-17"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "data_pipeline.world", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_processes_make_the_same_clips_by_command(made: Order, tmp_path: Path) -> None:
    result = run(
        *("--out", str(tmp_path), "--clips", "2", "--split", "train", "--seed", "4"),
        *("--frames", "17", "--workers", "2"),
    )
    assert result.returncode == 0, result.stderr
    for path in sorted((tmp_path / "clips").iterdir()):
        if path.suffix == ".wav":
            assert path.read_bytes() == (made.out / "clips" / path.name).read_bytes()
        if path.suffix == ".npz":
            with np.load(path) as one, np.load(made.out / "clips" / path.name) as other:
                np.testing.assert_array_equal(one["landmarks"], other["landmarks"])


def test_mistakes_end_with_one_line_and_code_two(tmp_path: Path) -> None:
    result = run("--out", str(tmp_path / "x"), "--clips", "1", "--frames", "18")
    assert result.returncode == 2 and "frames 18" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list((tmp_path / "x").rglob("*.mp4"))
