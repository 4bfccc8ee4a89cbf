"""Where the face is in a picture: the cascades that OpenCV ships, frontal first, then profile.

Nothing is trained or fetched for this: the boosted cascades of Viola and Jones (2001) come inside
the opencv-python wheels up to 4.x. They serve photographs and drawings seen more or less from the
front; a box goes from the middle of the forehead to the chin and is square.

Shapes
  find_face   [H W 3] uint8 -> Face(box in pixels of the picture, confidence 0..1) or None

Tests: tests/media/face_detection_test.py.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ft_jax.media.image import Box

SEARCH_SIDE = 480  # pixels of the longer side while searching; smaller pictures are enlarged
SMALLEST_FACE = 0.1  # of the shorter side
# The sum over the cascade's last stage at which a detection is believed. Faces of photographs reach
# 3 to 8; of what is found in pictures without a face most stays below 2.
BELIEVED = 2.0


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a picture: (left, top, right, bottom) in pixels, and how sure it is, 0..1."""

    box: Box
    confidence: float


def find_face(image: UInt8[np.ndarray, "H W 3"]) -> Face | None:
    """The most certain and largest face of a picture, or None."""
    import cv2

    height, width = image.shape[:2]
    scale = SEARCH_SIDE / max(height, width)
    kernel = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=kernel), cv2.COLOR_RGB2GRAY)
    found = (
        _detect("frontalface_default", grey)
        or _detect("frontalface_default", cv2.equalizeHist(grey))
        or _detect("profileface", grey)
        or _mirrored(_detect("profileface", np.ascontiguousarray(grey[:, ::-1])), grey.shape[1])
    )
    if not found:
        return None
    (left, top, side), score = max(found, key=lambda each: each[1] * each[0][2])
    box = (left / scale, top / scale, (left + side) / scale, (top + side) / scale)
    return Face(box, float(1.0 - np.exp(-score / 3.0)))


def _detect(name: str, grey: np.ndarray) -> list[tuple[tuple[int, int, int], float]]:
    smallest = max(24, round(SMALLEST_FACE * min(grey.shape)))
    boxes, _, scores = _cascade(name).detectMultiScale3(
        grey,
        scaleFactor=1.1,
        minNeighbors=4,
        minSize=(smallest, smallest),
        outputRejectLevels=True,
    )
    return [
        ((int(left), int(top), int(side)), float(score))
        for (left, top, side, _), score in zip(boxes, scores, strict=True)
        if score >= BELIEVED
    ]


def _mirrored(
    found: list[tuple[tuple[int, int, int], float]], width: int
) -> list[tuple[tuple[int, int, int], float]]:
    return [((width - left - side, top, side), score) for (left, top, side), score in found]


@functools.cache
def _cascade(name: str) -> Any:
    import cv2

    folder = pathlib.Path(cv2.__file__).parent / "data"
    return cv2.CascadeClassifier(str(folder / f"haarcascade_{name}.xml"))
