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

SMALLEST_FACE = 24  # pixels of the picture that is searched, the least the cascades know
# What is asked, in this order: a cascade, the longer side that the picture is brought to, and the
# number of overlapping detections from which one is believed. The last finds small faces in large
# pictures. Of 203 pictures without a face (photographs, screenshots, icons, noise) 5 pass; of 44
# with one, drawn and photographed, 38 do, and of 40 where it is small 31.
SEARCHES = (
    ("frontalface_alt2", 240, 4),
    ("frontalface_default", 240, 8),
    ("profileface", 240, 4),
    ("frontalface_alt2", 640, 8),
)


@dataclasses.dataclass(frozen=True)
class Face:
    """A face in a picture: (left, top, right, bottom) in pixels, and how sure it is, 0..1."""

    box: Box
    confidence: float


def find_face(image: UInt8[np.ndarray, "H W 3"]) -> Face | None:
    """The most certain and largest face of a picture, or None."""
    for cascade, side, least in SEARCHES:
        grey, scale = _grey(image, side)
        found = _detect(cascade, grey)
        if cascade == "profileface":  # this one knows one side only
            mirrored = _detect(cascade, np.ascontiguousarray(grey[:, ::-1]))
            edge = grey.shape[1]
            found += [((edge - x - wide, y, wide), count) for (x, y, wide), count in mirrored]
        (x, y, wide), count = max(found, key=lambda each: each[1] * each[0][2], default=_NOTHING)
        if count >= least:
            box = (x / scale, y / scale, (x + wide) / scale, (y + wide) / scale)
            return Face(box, 1.0 - 0.5 ** (count / least))
    return None


_NOTHING = ((0, 0, 0), 0)


def _grey(image: np.ndarray, side: int) -> tuple[np.ndarray, float]:
    """The picture in grey with a longer side of `side` pixels, and how much that scaled it."""
    import cv2

    height, width = image.shape[:2]
    scale = side / max(height, width)
    kernel = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.cvtColor(cv2.resize(image, size, interpolation=kernel), cv2.COLOR_RGB2GRAY), scale


def _detect(name: str, grey: np.ndarray) -> list[tuple[tuple[int, int, int], int]]:
    """Squares (left, top, side) and how many overlapping detections each was made of."""
    boxes, counts = _cascade(name).detectMultiScale2(
        grey, scaleFactor=1.1, minNeighbors=1, minSize=(SMALLEST_FACE, SMALLEST_FACE)
    )
    return [
        ((int(x), int(y), int(side)), int(count))
        for (x, y, side, _), count in zip(boxes, counts, strict=True)
    ]


@functools.cache
def _cascade(name: str) -> Any:
    import cv2

    folder = pathlib.Path(cv2.__file__).parent / "data"
    return cv2.CascadeClassifier(str(folder / f"haarcascade_{name}.xml"))
