"""Crops of one face through a clip, as the published sync network was fed with them.

A box in every frame, smoothed over half a second by its median, becomes a square that reaches 0.4
of the box further to both sides and 0.8 downwards, so that the lips lie near its middle; grey where
it leaves the picture; 224 x 224 pixels. Frames without a box take one between their neighbours'.
What stands before the first box and behind the last is not part of the track.

`at_25` brings frames of another rate to the 25 a second that the network was trained with, as
ffmpeg does: frames are shown again or left out, none is blended.

The boxes of the published numbers came from another detector (S3FD); a box that is larger or lies
elsewhere gives other numbers. The JPEG and MPEG-4 files in between are left out.

Shapes: frames [f H W 3] uint8, boxes [f 4] in pixels -> crops [shown 224 224 3] uint8, f at most.
Source: run_pipeline.py of syncnet_python. Tests: tests/media/face_track_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, UInt8

SIDE = 224
RATE = 25
LEAST_FRAMES = 13  # of the median; less is no track
_WIDER = 0.4  # shares of the box
_GREY = 110


@dataclasses.dataclass(frozen=True)
class Track:
    """The face from frame `start` on.

    Attributes:
      start: Frame of the clip that the first crop shows.
      crops: In the order of colours of the frames.
    """

    start: int
    crops: UInt8[np.ndarray, "shown 224 224 3"]


def at_25(frames: int, fps: float) -> Int[np.ndarray, " shown"]:
    """Numbers of the frames that are shown at 25 frames a second, of `frames` at `fps`.

    A frame appears at the tick nearest to its time and stays until the next appears.
    """
    ticks = np.floor(np.arange(frames) * RATE / fps + 0.5).astype(int)
    shown = max(1, int(np.floor(frames * RATE / fps + 0.5)))
    return np.searchsorted(ticks, np.arange(shown), side="right") - 1


def track(frames: UInt8[np.ndarray, "f H W 3"], boxes: Float[np.ndarray, "f 4"]) -> Track | None:
    """Follows the face, or returns None where fewer than 13 frames lie between its first and last.

    Args:
      frames: At 25 frames a second.
      boxes: Left, top, right, bottom in pixels; NaN where no face is seen.
    """
    seen = np.flatnonzero(np.isfinite(boxes).all(-1))
    if not len(seen) or seen[-1] + 1 - seen[0] < LEAST_FRAMES:
        return None
    place = np.arange(seen[0], seen[-1] + 1)
    whole = np.stack([np.interp(place, seen, side[seen]) for side in boxes.T.astype(np.float64)])
    half, x, y = map(
        _smooth,
        (
            np.maximum(whole[3] - whole[1], whole[2] - whole[0]) / 2,
            (whole[0] + whole[2]) / 2,
            (whole[1] + whole[3]) / 2,
        ),
    )
    crops = [_crop(frames[at], *row) for at, *row in zip(place, half, x, y, strict=True)]
    return Track(int(seen[0]), np.stack(crops))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Median of 13; zeros stand beyond both ends, as in the published crops."""
    from scipy.signal import medfilt

    return medfilt(values, LEAST_FRAMES)


def _crop(frame: np.ndarray, half: float, x: float, y: float) -> np.ndarray:
    import cv2

    margin = int(half * (1 + 2 * _WIDER))
    edges = ((margin, margin), (margin, margin), (0, 0))
    padded = np.pad(frame, edges, constant_values=_GREY)
    x, y, wide = x + margin, y + margin, half * (1 + _WIDER)
    rows = slice(max(0, int(y - half)), max(1, int(y + half * (1 + 2 * _WIDER))))
    columns = slice(max(0, int(x - wide)), max(1, int(x + wide)))
    cut = padded[rows, columns]
    if not cut.size:  # a box that lies outside of the picture
        return np.full((SIDE, SIDE, 3), _GREY, np.uint8)
    return cv2.resize(cut, (SIDE, SIDE))
