"""The square around a face, as the face encoder sees it.

The square stands around the face box, `MARGIN` wider than the box's longer side, and is turned so
that the eyes are level. Sampling is finer than the result and averaged, so that large pictures do
not alias.

Shapes: picture [H W 3] uint8, box in pixels -> [size size 3] uint8.
Tests: tests/media/face_crop_test.py.
"""

import numpy as np
from jaxtyping import UInt8

from ft_jax.media.image import Box

MARGIN = 1.1
FINER = 2  # sample points along each side of a pixel of the crop


def face_crop(
    picture: UInt8[np.ndarray, "H W 3"], box: Box, size: int, tilt: float = 0.0
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Cuts a face out of a picture.

    Args:
      picture: Upright RGB.
      box: Left, top, right, bottom in pixels; may reach over the edge, which is then repeated.
      size: Pixels of the crop along each side.
      tilt: How far the head is turned clockwise as seen, in radians.
    """
    import cv2

    left, top, right, bottom = box
    side = MARGIN * max(right - left, bottom - top)
    fine = size * FINER
    step = side / fine
    cos, sin = step * np.cos(tilt), step * np.sin(tilt)
    axes = np.array([[cos, -sin], [sin, cos]])
    # Pixel centres: the middle of the crop lies between its two middle samples.
    middle = np.array([left + right, top + bottom]) / 2 - 0.5
    matrix = np.concatenate([axes, (middle - axes @ np.full(2, (fine - 1) / 2))[:, None]], axis=1)
    # The sampling itself must not alias: blur what is finer than the distance of samples.
    source = picture if step <= 1 else cv2.GaussianBlur(picture, (0, 0), 0.5 * step)
    sampled = cv2.warpAffine(
        source,
        matrix,
        (fine, fine),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cv2.resize(sampled, (size, size), interpolation=cv2.INTER_AREA)
