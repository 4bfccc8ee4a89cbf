"""One clip -> one record of PIXELS: reduced frames, sound, phonemes, measures, face crops.

In: a clip of a folder and the build's settings. Out: the encoded record, or the reason why the clip
cannot be used. Pure per clip, so clips run in any order and in several processes.
Tests: tests/data_pipeline/build/build_test.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline import schema
from data_pipeline.annotate import crop
from data_pipeline.annotate.observe import observe
from data_pipeline.build.clips import Clip, read_clip, reduce
from data_pipeline.build.config import BuildConfig
from data_pipeline.world.phonemes import NAMES
from ft_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class PixelsJob:
    """The `data_pipeline.build.run.Job` without a model: clips are encoded where they are read."""

    config: BuildConfig
    persons: tuple[str, ...]

    @classmethod
    def of(cls, config: BuildConfig, clips: Sequence[Clip]) -> PixelsJob:
        """The job for these clips; persons are numbered in the order of their names."""
        return cls(config, tuple(sorted({clip.person for clip in clips})))

    @property
    def widths(self) -> dict[str, int]:
        """The letters that this data set fixes."""
        config = self.config
        measures = len(schema.MEASURES)
        return {"H": config.height, "W": config.width, "face": config.face, "m": measures}

    def annotate(self, clip: Clip) -> schema.Record:
        """The encoded record of a clip."""
        frames, audio = read_clip(clip, self.config)
        seen = observe(clip.truth, self.config.frames, self.config.fps)
        picks = crop.uncovered(seen.visible, self.config.crops)
        if not picks:
            raise UsageError("no uncovered face")
        record = {
            "id": clip.record_id,
            "schema": schema.VERSION,
            "person": clip.person,
            "person_index": self.persons.index(clip.person),
            "caption": clip.caption,
            "fps": self.config.fps,
            "frames": reduce(frames, self.config.height, self.config.width),
            "audio": audio,
            "phonemes": seen.phonemes.astype(np.int16),
            "faces": np.stack([seen.crop(frames, pick, self.config.face) for pick in picks]),
            "measures": seen.measures.astype(np.float32),
            "face_box": seen.face_box.astype(np.float16),
        }
        return schema.encode(schema.PIXELS, record, self.widths)

    @property
    def lanes(self) -> int:
        """Nothing runs on devices."""
        return 1

    def encode(self, chunks: Sequence[Sequence[schema.Record]]) -> list[schema.Record]:
        """They are encoded already."""
        return [record for chunk in chunks for record in chunk]

    def metadata(self) -> dict[str, Any]:
        """Names of what the numbers in the records stand for."""
        return {
            "persons": list(self.persons),
            "names": {"measures": list(schema.MEASURES), "phonemes": list(NAMES)},
            "encoders": {},
        }
