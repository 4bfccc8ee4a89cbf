import functools
import json
import types
from typing import Any

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipeline.world import phonemes
from ft_jax.checkpoints import bundle
from ft_jax.cli import evaluate
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.eval.clip import MEANINGS
from ft_jax.eval.instrument import Measured
from ft_jax.media import video
from ft_jax.models import landmarks, syncnet
from tests.convert import published
from tests.sampling import tiny_system

FPS, FRAMES = 23.0, 23
OPENING = 0.5 + 0.5 * np.sin(np.arange(FRAMES) * 0.8)
NAMES = ("lip_opening", "brow", "cheek", "lid", "head_x", "head_y", "shoulder")


class Instrument:
    """Sees the brightness of a frame, as every measure."""

    def measure(self, frames: np.ndarray) -> Measured:
        assert frames.shape[1:] == (16, 16, 3)
        bright = frames.mean((1, 2, 3)) / 255
        return Measured({name: bright for name in NAMES}, np.zeros((len(frames), 4)), bright)


@pytest.fixture
def judge(monkeypatch):
    def start(self, weights):
        self.weights = str(weights)
        self._system = types.SimpleNamespace(height=16, width=16)
        self._instrument, self._listener = Instrument(), None

    monkeypatch.setattr(evaluate.Judge, "__init__", start)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        frames = np.zeros((FRAMES, 48, 32, 3))
        frames += (40 + 160 * OPENING)[:, None, None, None]
        samples = (
            np.sin(np.arange(48_000) * 0.05) * np.repeat(OPENING, 48_000 // FRAMES + 1)[:48_000]
        )
        track = samples[None].astype(np.float32) * 0.5
        video.write(tmp_path / "clips" / f"{name}.mp4", frames.astype(np.uint8), FPS, track)
    np.savez(
        tmp_path / "clips" / "a.truth.npz",
        lip_opening=OPENING,
        phoneme_labels=np.array([phonemes.INDEX["m"], phonemes.INDEX["aa"]]),
        phoneme_times=np.array([[0.1, 0.3], [0.3, 0.5]]),
    )
    return tmp_path


def test_a_folder_of_clips_becomes_a_table_and_json(folder, judge, capsys):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["evaluate"])
    out = folder / "numbers.json"
    with flagsaver.flagsaver(clips=str(folder), out=str(out), weights=None):
        evaluate.main([])
    content = json.loads(out.read_text())
    assert set(content["clips"]) == {"a", "b"} and set(content["numbers"]) == set(MEANINGS)
    numbers = {name: (row["value"], row["count"]) for name, row in content["numbers"].items()}
    assert numbers["lips_truth"][0] > 0.99 and numbers["lips_truth"][1] == 1
    assert numbers["lips_loudness"][0] > 0.8 and numbers["lips_loudness"][1] == 2
    assert numbers["closure"] == (0.0, 1) and numbers["measured"] == (1.0, 2)
    assert "lips_truth" in capsys.readouterr().out


class Listener:
    """Says how many frames it saw and seconds it heard."""

    def scores(self, frames, fps, speech):
        assert fps == FPS and frames.shape[1:] == (48, 32, 3)
        return {"lse_c": float(len(frames)), "lse_d": round(len(speech) / 16_000, 1)}


def test_syncnet_adds_its_numbers_or_gives_them_alone(folder, judge):
    made: Any = evaluate.Judge(None)
    made._listener = Listener()
    whole = made.scores(folder / "clips" / "a.mp4")
    assert set(whole) == {*MEANINGS, "lse_c", "lse_d"}
    made._instrument = None
    alone = made.scores(folder / "clips" / "a.mp4")
    assert alone == {"lse_c": FRAMES, "lse_d": 1.0}
    rows = {row.name: row.record()["value"] for row in evaluate.means([alone])}
    assert rows == alone


def test_the_weights_decide_what_is_measured(tmp_path):
    made = published.system()
    parts = {
        name: tiny_system.random_params(functools.partial(module.init, cfg=getattr(made, name)))
        for name, module in (("landmarks", landmarks), ("sync", syncnet))
    }
    found = {}
    for name, kept in (("both", parts), ("sync", {"sync": parts["sync"]})):
        bundle.save(tmp_path / f"{name}.safetensors", to_dict(made), kept)
        judge = evaluate.Judge(str(tmp_path / f"{name}.safetensors"))
        found[name] = judge._instrument is not None, judge._listener is not None
    assert found == {"both": (True, True), "sync": (False, True)}
    bundle.save(tmp_path / "none.safetensors", to_dict(made), {"other": parts["sync"]})
    with pytest.raises(UsageError, match="no part 'landmarks'"):
        evaluate.Judge(str(tmp_path / "none.safetensors"))


def test_wrong_folders_and_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        evaluate.find_clips(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no mp4 files"):
        evaluate.find_clips(tmp_path)
    broken = tmp_path / "a.truth.npz"
    for content in (b"PK", b"PK\x03\x04" + bytes(60), b"no"):
        broken.write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.truth\.npz"):
            evaluate.truth_of(tmp_path / "a.mp4", FPS)
