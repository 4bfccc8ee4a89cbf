"""A folder of clips as the build reads it: what is there, its pictures and its sound.

  DIR/index.jsonl            one line per clip: id, person, caption, ...
  DIR/clips/<id>.mp4         pictures (and sound, for players)
  DIR/clips/<id>.wav         16 kHz mono; without it the sound of the mp4 is taken
  DIR/clips/<id>.truth.npz   only where the clip was drawn

Pictures are reduced by area. Sound is cut, or padded with silence, to frames / fps seconds.
Tests: tests/data_pipeline/build/build_test.py.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8

from data_pipeline.build.config import BuildConfig
from ft_jax.errors import UsageError
from ft_jax.media import sound, video

SAMPLE_RATE = 16_000


@dataclasses.dataclass(frozen=True)
class Clip:
    """One line of the index and the files it stands for."""

    id: str
    video: pathlib.Path
    sound: pathlib.Path
    truth: pathlib.Path | None
    facts: dict[str, Any]

    @property
    def record_id(self) -> str:
        """Source / file / start frame."""
        return f"{self.facts.get('source', 'clips')}/{self.id}/0"

    @property
    def person(self) -> str:
        """Who is seen; empty if not known."""
        return str(self.facts.get("person", ""))

    @property
    def caption(self) -> str:
        """What is seen, in words."""
        return str(self.facts.get("caption", ""))


def read_index(folder: str | pathlib.Path) -> list[Clip]:
    """All clips of a folder, sorted by id.

    Raises:
        UsageError: no index, a line that cannot be read, the same id twice, a missing mp4.
    """
    folder = pathlib.Path(folder)
    index = folder / "index.jsonl"
    if not index.is_file():
        raise UsageError(f"{index}: no such file; expected one JSON object per clip")
    clips: dict[str, Clip] = {}
    for number, line in enumerate(index.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            facts = json.loads(line)
            name = facts["id"]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise UsageError(f"{index}:{number}: expected a JSON object with an id") from None
        if name in clips:
            raise UsageError(f"{index}:{number}: clip {name} stands there twice")
        clips[name] = _clip(folder, facts)
    if not clips:
        raise UsageError(f"{index}: lists no clips")
    return [clips[name] for name in sorted(clips)]


def read_clip(
    clip: Clip, config: BuildConfig
) -> tuple[UInt8[np.ndarray, "f H W 3"], Int16[np.ndarray, " x"]]:
    """Frames in the clip's own size, and the sound of exactly these frames.

    Raises:
        UsageError: a file cannot be decoded, the sound is silent, the clip is too short or has
            another frame rate.
    """
    seen = video.read(clip.video, max_frames=config.frames)
    if len(seen.frames) < config.frames:
        raise UsageError(f"fewer than {config.frames} frames")
    if abs(seen.fps - config.fps) > 0.01:
        raise UsageError(f"{seen.fps:g} frames/s instead of {config.fps:g}")
    speech = sound.read(clip.sound).speech
    samples = np.zeros(int(config.frames / config.fps * SAMPLE_RATE + 1e-6), np.float32)
    heard = speech[: len(samples)]
    samples[: len(heard)] = heard
    return seen.frames, np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16)


def reduce(
    frames: UInt8[np.ndarray, "f H W 3"], height: int, width: int
) -> UInt8[np.ndarray, "f height width 3"]:
    """Frames at the model's size, each pixel the mean of the area it stands for.

    Raises:
        UsageError: the frames are smaller, or of another aspect ratio (their annotations are
            relative to the whole picture, so cutting comes before annotating).
    """
    import cv2

    rows, columns = frames.shape[1:3]
    if rows < height or columns < width or rows * width != columns * height:
        raise UsageError(f"frames of {rows} x {columns} cannot be reduced to {height} x {width}")
    size = (width, height)
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def _clip(folder: pathlib.Path, facts: dict[str, Any]) -> Clip:
    name = str(facts["id"])
    pictures = folder / "clips" / f"{name}.mp4"
    if not pictures.is_file():
        raise UsageError(f"{pictures}: no such file; index.jsonl names it")
    spoken = pictures.with_suffix(".wav")
    truth = pictures.with_suffix(".truth.npz")
    return Clip(
        id=name,
        video=pictures,
        sound=spoken if spoken.is_file() else pictures,
        truth=truth if truth.is_file() else None,
        facts=facts,
    )
