"""Face crops of annotated frames, and which frames to take them from.

The crop itself is the one that a portrait gets when a clip is made (ft_jax/media/face_crop.py):
here it is told the box and the eyes of an annotation, relative to the picture.

Invariant: turning the picture about the face does not change the crop (to the resampling).
Tests: tests/data_pipeline/annotate/crop_test.py.
"""

import numpy as np
from jaxtyping import Float, UInt8

from ft_jax.media import face_crop as media


def face_crop(
    frame: UInt8[np.ndarray, "H W 3"],
    face_box: Float[np.ndarray, " 4"],
    size: int,
    eyes: Float[np.ndarray, "2 2"] | None = None,
) -> UInt8[np.ndarray, "size size 3"]:
    """Cuts the face out of a frame.

    Args:
        frame: the picture.
        face_box: left, top, right, bottom / (width, height).
        size: pixels of the crop along each side.
        eyes: centre of the left and of the right eye as seen in the picture / (width, height).
    """
    scale = np.array([frame.shape[1], frame.shape[0]], np.float64)
    left, top, right, bottom = (float(side) for side in face_box * np.tile(scale, 2))
    tilt = 0.0
    if eyes is not None and np.isfinite(eyes).all():
        across, down = (eyes[1] - eyes[0]) * scale
        tilt = float(np.arctan2(down, across))
    return media.face_crop(frame, (left, top, right, bottom), size, tilt)


def uncovered(visible: Float[np.ndarray, " f"], count: int, least: float = 0.9) -> list[int]:
    """Up to `count` frames in which the face is seen, evenly spread over them."""
    seen = np.flatnonzero(visible >= least)
    picks = np.linspace(0, len(seen) - 1, min(count, len(seen)))
    return [int(seen[int(pick)]) for pick in np.rint(picks)] if len(seen) else []
