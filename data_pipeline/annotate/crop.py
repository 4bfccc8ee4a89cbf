"""Square face crops, as the face encoder sees them.

The square stands around the face box, `MARGIN` wider than the box's longer side, and is turned so
that the eyes are level where the eyes are known. Sampling is finer than the result and averaged, so
large pictures do not alias.

Shapes: frame [H W 3] uint8, face_box and eyes relative to (width, height) -> [size size 3] uint8.
Invariant: turning the picture about the face does not change the crop (to the resampling).
Tests: tests/data_pipeline/annotate/crop_test.py.
"""

import numpy as np
from jaxtyping import Float, UInt8

MARGIN = 1.1
FINER = 2  # sample points along each side of a pixel of the crop


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
    import cv2

    scale = np.array([frame.shape[1], frame.shape[0]], np.float64)
    low, high = face_box[:2] * scale, face_box[2:] * scale
    side = MARGIN * float((high - low).max())
    angle = 0.0
    if eyes is not None and np.isfinite(eyes).all():
        across = (eyes[1] - eyes[0]) * scale
        angle = float(np.arctan2(across[1], across[0]))
    fine = size * FINER
    step = side / fine
    axes = step * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Pixel centres: the middle of the crop lies between its two middle samples.
    origin = (low + high) / 2 - 0.5 - axes @ np.full(2, (fine - 1) / 2)
    matrix = np.concatenate([axes, origin[:, None]], 1)
    # The sampling itself must not alias: blur what is finer than the sample distance.
    source = frame if step <= 1 else cv2.GaussianBlur(frame, (0, 0), 0.5 * step)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    sampled = cv2.warpAffine(
        source, matrix, (fine, fine), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)


def uncovered(visible: Float[np.ndarray, " f"], count: int, least: float = 0.9) -> list[int]:
    """Up to `count` frames in which the face is seen, evenly spread over them."""
    seen = np.flatnonzero(visible >= least)
    picks = np.linspace(0, len(seen) - 1, min(count, len(seen)))
    return [int(seen[int(pick)]) for pick in np.rint(picks)] if len(seen) else []
