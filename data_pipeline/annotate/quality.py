"""Numbers a corpus can be filtered by; order and names are schema.QUALITY.

  detection     least visibility of the face over the clip, 0-1
  sharpness     variance of the Laplacian of the brightness (0-1) in the face box, median frame
  brightness    mean brightness of the picture, 0-1
  text_area     share of the picture covered by letters; 0, as nothing here looks for them
  speech_share  share of the audio tokens that are not silence

Tests: tests/data_pipeline/annotate/quality_test.py.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8


def measure(
    frames: UInt8[np.ndarray, "f H W 3"],
    face_box: Float[np.ndarray, "f 4"],
    visible: Float[np.ndarray, " f"],
    phonemes: Int[np.ndarray, " a"],
) -> Float32[np.ndarray, " quality"]:
    """The numbers above for one clip.

    Args:
        frames: pictures in the clip's own size.
        face_box: relative to (width, height); the whole picture is taken where it is NaN.
        visible: 0-1 per frame.
        phonemes: class per audio token, 0 for silence.
    """
    grey = [_brightness(frame) for frame in frames]
    sharpness = [_sharpness(_cut(g, box)) for g, box in zip(grey, face_box, strict=True)]
    return np.array(
        [
            np.nan_to_num(visible).min(),
            np.median(sharpness),
            np.mean(grey),
            0.0,
            np.mean(phonemes != 0) if len(phonemes) else 0.0,
        ],
        np.float32,
    )


def _brightness(frame: np.ndarray) -> np.ndarray:
    return frame @ np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)


def _cut(grey: np.ndarray, box: np.ndarray) -> np.ndarray:
    if not np.isfinite(box).all():
        return grey
    height, width = grey.shape
    left, right = (box[[0, 2]] * width).clip(0, width).astype(int)
    top, bottom = (box[[1, 3]] * height).clip(0, height).astype(int)
    part = grey[top:bottom, left:right]
    return part if min(part.shape) > 2 else grey


def _sharpness(grey: np.ndarray) -> float:
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float((around - 4 * middle).var())
