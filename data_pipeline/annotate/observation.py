"""What an annotator says about one clip, whichever annotator it was.

The world's truth annotator fills it from what was drawn; annotators for real clips fill it from
detectors. Everything after this file (masks, motion, crops, quality, sync) reads observations only,
so both kinds of clips go the same way.

Shapes: f frames; coordinates are relative to (width, height); NaN where nothing was seen.
Tests: tests/data_pipeline/build/build_test.py (through the build).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_pipeline.annotate.crop import face_crop


@dataclasses.dataclass(frozen=True)
class Observation:
    """Per-frame positions, and which of them are what.

    Attributes:
        landmarks: of the face.
        outer_lip: indices into landmarks, in order around the outer lip.
        inner_lip: the same around the opening.
        lips: every landmark that belongs to the mouth.
        eyes: landmarks of the left and of the right eye (as seen in the picture).
        joints: x, y, visibility.
        shoulders: indices of the two shoulder joints.
        face_box: left, top, right, bottom.
        visible: 0-1, how well the face is seen (for a detector: its confidence).
        measures: see schema.MEASURES; NaN where unknown.
        phonemes: class of each audio token; 0 is silence.
        annotator: name and version, for the provenance.
    """

    landmarks: Float[np.ndarray, "f points 2"]
    outer_lip: tuple[int, ...]
    inner_lip: tuple[int, ...]
    lips: tuple[int, ...]
    eyes: tuple[tuple[int, ...], tuple[int, ...]]
    joints: Float[np.ndarray, "f joints 3"]
    shoulders: tuple[int, int]
    face_box: Float[np.ndarray, "f 4"]
    visible: Float[np.ndarray, " f"]
    measures: Float[np.ndarray, "f m"]
    phonemes: Int[np.ndarray, " a"]
    annotator: str

    def crop(
        self, frames: UInt8[np.ndarray, "f H W 3"], index: int, size: int
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The aligned face crop of one frame."""
        eyes = np.stack([self.landmarks[index, list(eye)].mean(0) for eye in self.eyes])
        return face_crop(frames[index], self.face_box[index], size, eyes)
