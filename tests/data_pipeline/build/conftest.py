"""Clips of a moving square with a beep, so that the build is tested without the drawn world."""

import contextlib
import json
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest

from data_pipeline import schema
from data_pipeline.annotate.observation import Observation
from ft_jax.media import video

FRAMES, FPS, SIDE = 17, 23.0, 128


def observation(truth: pathlib.Path, frames: int, fps: float) -> Observation:
    """Two eyes, a mouth that opens, two shoulders; the truth file holds the phase.

    The rest of the mesh and of the joints is not known, as it may be with any annotator.
    """
    del fps
    phase = float(np.load(truth)["phase"])
    beat = np.sin(np.arange(frames) / 2 + phase)
    eyes = np.array([[0.4, 0.4], [0.42, 0.4], [0.58, 0.4], [0.6, 0.4]])
    lips = np.array([[0.4, 0.6], [0.5, 0.58], [0.6, 0.6], [0.5, 0.64]])
    rest = np.array([[0.3, 0.5], [0.7, 0.5], [0.5, 0.3], [0.5, 0.7]])
    landmarks = np.repeat(np.concatenate([eyes, lips, rest])[None], frames, 0)
    landmarks[:, 7, 1] += 0.02 * beat
    landmarks[:, 10, 1] += 0.01 * (1 + phase) * beat
    joints = np.ones((frames, 3, 3))
    joints[..., :2] = [[0.2, 0.9], [0.8, 0.9], [0.5, 0.45]]
    joints[:, 2, 0] += 0.01 * (2 + phase) * beat
    measures = np.zeros((frames, len(schema.MEASURES)), np.float32)
    measures[:, 0] = 0.06 + 0.02 * beat
    mesh = np.full((frames, 478, 2), np.nan, np.float32)
    mesh[:, : landmarks.shape[1]] = landmarks
    body = np.zeros((frames, 33, 3), np.float32)
    body[:, :3] = joints
    return Observation(
        landmarks=mesh,
        outer_lip=(4, 5, 6, 7),
        inner_lip=(4, 5, 6, 7),
        lips=(4, 5, 6, 7),
        eyes=((0, 1), (2, 3)),
        joints=body,
        shoulders=(0, 1),
        face_box=np.tile(np.array([0.28, 0.28, 0.72, 0.72], np.float32), (frames, 1)),
        visible=np.where(np.arange(frames) < 3, 0, 1).astype(np.float32),
        measures=measures,
        phonemes=np.arange(int(frames / FPS * 16000 - 400) // 320 + 1, dtype=np.int16) % 5,
        annotator="fake 1",
    )


def write_clips(folder: pathlib.Path, count: int) -> pathlib.Path:
    """`count` clips of three persons, and their index."""
    import soundfile

    lines = []
    for number in range(count):
        name = f"clip{number:02d}"
        ramp = np.arange(SIDE, dtype=np.uint8)
        frames = np.zeros((FRAMES, SIDE, SIDE, 3), np.uint8)
        frames[..., 0], frames[..., 1] = ramp, ramp[:, None]
        frames[:, 32:96, 32:96, 2] = 60 + 20 * number
        video.write(folder / "clips" / f"{name}.mp4", frames, FPS)
        time = np.arange(int(FRAMES / FPS * 16000)) / 16000
        beep = 0.3 * np.sin(2 * np.pi * 440 * time) * (1 + np.sin(time * 23 / 2 + number)) / 2
        soundfile.write(folder / "clips" / f"{name}.wav", beep.astype(np.float32), 16000)
        np.savez(folder / "clips" / f"{name}.truth.npz", phase=number / 3)
        lines.append(
            {
                "id": name,
                "person": f"p{number % 3}",
                "caption": f"number {number}",
                "source": "fake",
            }
        )
    (folder / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of five clips."""
    return write_clips(tmp_path_factory.mktemp("source"), 5)


@contextlib.contextmanager
def patched_annotator() -> Iterator[None]:
    """Every build annotates the fake clips."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("pixels", "records"):
            patch.setattr(f"data_pipeline.build.{module}.observe", observation)
        yield


@pytest.fixture(autouse=True)
def fake_annotator() -> Iterator[None]:
    """The fake annotator, in every test of the folder."""
    with patched_annotator():
        yield
