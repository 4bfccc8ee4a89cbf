"""Any picture of a person -> the picture a system animates, and the face it is told to keep.

The detector of ft_jax/media says where the face is; where it is blind (drawn faces, now and then)
the system's landmark network is asked. The crop for the model keeps as much of the picture as its
aspect ratio allows and comes closer only where the face would be too small. The face crop is taken
from the picture as it was given, at full resolution.

A picture that already has the model's size is taken as it is.

Shapes: picture [H W 3] uint8 -> Portrait(picture [height width 3], face [size size 3] or None).
Without a face the clip is made all the same, from the middle of the picture and without the
identity branch, which has seen that in training; the portrait's `notes` say so.
Tests: tests/sampling/portrait_test.py.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from ft_jax.media.face_crop import face_crop
from ft_jax.media.face_detection import find_face
from ft_jax.media.image import Box, Framing, frame, resize

SURE = 0.9  # probability from which the landmark network is believed
NO_FACE = "no face found in the portrait; it is animated as it is, without keeping an identity"


@dataclasses.dataclass(frozen=True)
class Seen:
    """A face as the landmark network sees it: box as shares of width and height."""

    box: Box
    tilt: float  # radians, clockwise
    visible: float  # probability


Look = Callable[[UInt8[np.ndarray, "H W 3"]], Seen]
"""The landmark network on one picture of the model's size."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the system takes: pixels of a frame and of a face crop."""

    height: int
    width: int
    face: int


@dataclasses.dataclass(frozen=True)
class Portrait:
    """What is animated, whose face it is, and what the user should know."""

    picture: UInt8[np.ndarray, "_ _ 3"]
    face: UInt8[np.ndarray, "_ _ 3"] | None
    notes: tuple[str, ...] = ()


def take(
    image: UInt8[np.ndarray, "H W 3"], sizes: Sizes, framing: Framing, look: Look | None
) -> Portrait:
    """Frames a picture and finds its face.

    Args:
      image: Any picture of at least 16 pixels a side.
      sizes: Of the system.
      framing: How large the face should stand in the picture.
      look: The landmark network, if the system has one.
    """
    height, width = image.shape[:2]
    aspect = sizes.width / sizes.height
    found = find_face(image)
    box = _from_detector(found.box) if found else _search(image, aspect, sizes, look)
    if (height, width) == (sizes.height, sizes.width):
        region: Box = (0.0, 0.0, float(width), float(height))
    else:
        region = frame(height, width, aspect, box, framing)
    picture = resize(image, sizes.height, sizes.width, region)
    tilt = 0.0
    if look is not None and box is not None:
        seen = look(picture)
        exact = _placed(seen.box, region)
        if seen.visible > SURE and _overlap(exact, box) > 0.4:
            box, tilt = exact, seen.tilt
    if box is None:
        return Portrait(picture, None, (NO_FACE,))
    return Portrait(picture, face_crop(image, box, sizes.face, tilt))


def _search(image: np.ndarray, aspect: float, sizes: Sizes, look: Look | None) -> Box | None:
    """Asks the landmark network about the crop that would be taken of a faceless picture."""
    if look is None:
        return None
    region = frame(image.shape[0], image.shape[1], aspect, None, Framing())
    seen = look(resize(image, sizes.height, sizes.width, region))
    return _placed(seen.box, region) if seen.visible > SURE else None


def _placed(box: Box, region: Box) -> Box:
    """Shares of a region -> pixels of the picture."""
    left, top = region[:2]
    width, height = region[2] - left, region[3] - top
    return (
        left + box[0] * width,
        top + box[1] * height,
        left + box[2] * width,
        top + box[3] * height,
    )


def _from_detector(box: Box) -> Box:
    """The box the encoders were trained with, from the detector's: lower, narrower (measured)."""
    center_x, center_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    side = box[3] - box[1]
    center_y += 0.065 * side
    return (
        center_x - 0.445 * side,
        center_y - 0.485 * side,
        center_x + 0.445 * side,
        center_y + 0.485 * side,
    )


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-6)
