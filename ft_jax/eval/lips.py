"""Do the lips follow the speech? Correlation with a known opening, and closure on m, b, p.

In: the lip opening of each frame, measured on decoded pixels (`instrument`), the opening this
speech has in the world, and the frames at which m, b and p are spoken. Out: one number per clip.
`mouth_area` is a second instrument that no training has touched: it counts pixels of the colours of
an open mouth; a network that had learned to see what is not there would disagree with it.

NaN marks a frame that could not be measured. Invariants: correlation is at zero lag, is 0 where
either side is constant or where fewer than half of the frames were measured, and does not depend on
the scale or the offset of either side.

Tests: tests/eval/lips_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8

from ft_jax.eval.bootstrap import Interval, bootstrap

_FLAT = 1e-9  # variance below which a track counts as constant
# Where the mouth lies in the face box: shares of its height and of its width.
_ROWS, _COLUMNS = (0.66, 0.97), (0.25, 0.75)
# What is seen in an open mouth of the drawn world: colour, and how far from it (RGB distance) a
# pixel counts for nothing.
_INSIDE: tuple[tuple[tuple[int, int, int], float], ...] = (
    ((66, 18, 26), 50.0),  # the dark
    ((248, 244, 236), 80.0),  # teeth
)


def correlation(
    first: Float[np.ndarray, "*b f"], second: Float[np.ndarray, "*b f"], least: float = 0.5
) -> Float[np.ndarray, "*b"]:
    """Pearson correlation over the frames at zero lag.

    Args:
      first: A track; NaN where it could not be measured.
      second: Another of the same length, in any unit.
      least: Share of the frames that must be measured in both; below it the clip counts as 0.
    """
    seen = np.isfinite(first) & np.isfinite(second)
    count = np.maximum(seen.sum(-1, keepdims=True), 1)

    def centred(track: np.ndarray) -> np.ndarray:
        track = np.where(seen, track, 0.0).astype(np.float64)
        return np.where(seen, track - track.sum(-1, keepdims=True) / count, 0.0)

    x, y = centred(first), centred(second)
    power = np.square(x).mean(-1) * np.square(y).mean(-1)
    usable = (seen.mean(-1) >= least) & (power > _FLAT**2)
    return np.where(usable, (x * y).mean(-1) / np.sqrt(np.where(usable, power, 1.0)), 0.0)


@dataclasses.dataclass(frozen=True)
class Closures:
    """Of `spoken` sounds that need closed lips, how many had them closed."""

    closed: int
    spoken: int


def closures(
    opening: Float[np.ndarray, " f"], spans: Shaped[np.ndarray, "s 2"], closed_below: float
) -> Closures:
    """Counts the sounds during which the lips close, in any frame the sound touches.

    Args:
      opening: Measured lip opening per frame; NaN counts as open.
      spans: First frame and the frame after the last of each m, b, p; frames outside are ignored.
      closed_below: Openings below this are closed, in the unit of `opening`.
    """
    shut = np.nan_to_num(opening, nan=np.inf) < closed_below
    inside = [(int(lo), int(hi)) for lo, hi in spans if max(lo, 0) < min(hi, len(opening))]
    return Closures(sum(bool(shut[max(lo, 0) : hi].any()) for lo, hi in inside), len(inside))


def mouth_area(
    frames: UInt8[np.ndarray, "f H W 3"], boxes: Float[np.ndarray, "f 4"]
) -> Float[np.ndarray, " f"]:
    """Share of the mouth's neighbourhood that has the colours of an open mouth.

    Args:
      frames: Of the drawn world, or generated like it.
      boxes: Face boxes (left, top, right, bottom) / (width, height); NaN where there is no face.
    """
    height, width = frames.shape[1:3]
    area = np.full(len(frames), np.nan)
    for index, (frame, box) in enumerate(zip(frames, boxes, strict=True)):
        if not np.isfinite(box).all():
            continue
        left, top, right, bottom = box * [width, height, width, height]
        rows = np.rint(top + (bottom - top) * np.asarray(_ROWS)).astype(int).clip(0, height)
        columns = np.rint(left + (right - left) * np.asarray(_COLUMNS)).astype(int).clip(0, width)
        pixels = frame[slice(*rows), slice(*columns)].astype(np.float64)
        if pixels.size == 0:
            continue
        parts = (
            np.clip(1 - np.linalg.norm(pixels - colour, axis=-1) / reach, 0, 1)
            for colour, reach in _INSIDE
        )
        area[index] = sum(part.mean() for part in parts)
    return area


def spans_of(
    times: Float[np.ndarray, "s 2"], fps: float, least: float = 0.048, edge: float = 0.012
) -> Int[np.ndarray, "s 2"]:
    """Frames during which sounds hold the lips, as [first, after last).

    A frame counts when its centre lies in the sound, whose edges (lips still moving) are left out
    as long as `least` seconds remain.

    Args:
      times: Start and end of each sound in seconds.
      fps: Frames per second; frame i has its centre at (i + 0.5) / fps.
      least: Seconds that every sound lasts at least, around its middle.
      edge: Seconds left out at both ends.
    """
    middle = times.mean(-1)
    half = np.maximum((times[:, 1] - times[:, 0]) / 2 - edge, least / 2)
    first = np.ceil((middle - half) * fps - 0.5)
    after = np.floor((middle + half) * fps - 0.5) + 1
    return np.stack([first, after], -1).astype(int)


def closure_rate(counts: list[Closures], seed: int = 0) -> Interval:
    """Share of the sounds of all clips during which the lips close; clips are resampled."""
    closed = np.asarray([c.closed for c in counts], float)
    spoken = np.asarray([c.spoken for c in counts], float)
    return bootstrap(lambda x, y: x.sum(-1) / np.maximum(y.sum(-1), 1), closed, spoken, seed=seed)
