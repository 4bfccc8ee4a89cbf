"""Regions as shares of latent cells: polygons of every frame in, uint8 masks [t h w] out.

A region is a polygon per frame, dilated by a share of its own height. It is sampled on a grid finer
than the pixels, averaged over the pixel frames that make each latent frame (the first alone, then
fours, as the causal codec groups them) and over the 8 x 8 pixels of each cell. So a thin closed
mouth keeps its true share instead of vanishing between pixels. "trilinear" is the alternative the
paper names: it samples cells at their centres, evenly in time, up to 2.8 frames beside the latent
frame that they are given to.

Shapes: polygon [f points 2] as x, y / (width, height); NaN frames have no region.
Invariants: the area of a convex polygon is exact to the sampling; the mask of latent frame 0 knows
pixel frame 0 only (not so where it is "trilinear").
Source: project decision on the lip region (paper section 3.3: M_lip from the detected lips).
Tests: tests/data_pipeline/annotate/mask_test.py.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.schema import SPACE_STRIDE, latent_frames

Resampling = Literal["groups", "trilinear"]
DILATION = 0.1  # of the lips, in their own heights
SAMPLES = 4  # sample points along each side of a pixel
LARGEST_ARRAY = 1 << 20  # numbers worked on at once


def region(
    polygon: Float[np.ndarray, "f points 2"], height: int, width: int, dilation: float = 0.0
) -> Float[np.ndarray, "f H W"]:
    """Share of each pixel that lies inside the polygon, grown by `dilation` times its height.

    Args:
        polygon: corners in order, relative to the picture; a frame with a NaN is left empty.
        height: rows of pixels.
        width: columns of pixels.
        dilation: radius of the growth as a share of the polygon's height in its frame.
    """
    shares = np.zeros((len(polygon), height, width), np.float32)
    for share, corners in zip(shares, polygon * np.array([width, height], np.float32), strict=True):
        if np.isfinite(corners).all():
            _fill(share, corners.astype(np.float64), dilation)
    return shares


def latent_mask(
    shares: Float[np.ndarray, "f H W"], resampling: Resampling = "groups"
) -> UInt8[np.ndarray, "t h w"]:
    """Mean over each latent frame's pixel frames and each cell's pixels, as 0-255.

    Args:
        shares: of every pixel, 0-1.
        resampling: "trilinear" interpolates at the cells' centres instead.
    """
    frames, height, width = shares.shape
    h, w = height // SPACE_STRIDE, width // SPACE_STRIDE
    if resampling == "trilinear":
        for axis, size in enumerate((latent_frames(frames), h, w)):
            shares = _interpolated(shares, axis, size)
        return np.rint(shares * 255).astype(np.uint8)
    cells = shares.reshape(frames, h, SPACE_STRIDE, w, SPACE_STRIDE).mean((2, 4))
    rest = cells[1:].reshape(latent_frames(frames) - 1, -1, h, w)
    rest = rest.mean(1) if len(rest) else rest.reshape(0, h, w)
    return np.rint(np.concatenate([cells[:1], rest]) * 255).astype(np.uint8)


def hulls(
    landmarks: Float[np.ndarray, "f points 2"], height: int, width: int
) -> Float[np.ndarray, "f H W"]:
    """Share of each pixel inside the convex hull of the landmarks that are known."""
    shares = np.zeros((len(landmarks), height, width), np.float32)
    for share, points in zip(shares, landmarks, strict=True):
        known = points[np.isfinite(points).all(-1)]
        if len(known) > 2:
            share[:] = region(hull(known)[None], height, width)[0]
    return shares


def below(
    landmarks: Float[np.ndarray, "f points 2"], top: Float[np.ndarray, " f"]
) -> Float[np.ndarray, "f points 2"]:
    """The landmarks of each frame that lie lower than its `top`; the others become NaN."""
    return np.where(landmarks[..., 1:] > top[:, None, None], landmarks, np.float32("nan"))


def _interpolated(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Linear interpolation along one axis at the centres of `size` equal parts."""
    length = x.shape[axis]
    place = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
    low = np.floor(place).astype(int)
    weight = np.expand_dims(place - low, tuple(k for k in range(x.ndim) if k != axis))
    upper = np.take(x, np.minimum(low + 1, length - 1), axis)
    return np.take(x, low, axis) * (1 - weight) + upper * weight


def _fill(share: np.ndarray, corners: np.ndarray, dilation: float) -> None:
    """Writes the shares of one frame; works on the polygon's bounding box only."""
    height, width = share.shape
    radius = dilation * np.ptp(corners[:, 1])
    low = np.floor(corners.min(0) - radius).astype(int).clip(0, (width, height))
    high = np.ceil(corners.max(0) + radius).astype(int).clip(0, (width, height))
    if (high <= low).any():
        return
    x, y = ((np.arange((high[k] - low[k]) * SAMPLES) + 0.5) / SAMPLES + low[k] for k in (0, 1))
    inside = _inside(x[None], y[:, None], corners)
    if radius > 0:
        inside |= _near(x[None], y[:, None], corners, radius)
    cells = inside.reshape(high[1] - low[1], SAMPLES, high[0] - low[0], SAMPLES)
    share[low[1] : high[1], low[0] : high[0]] = cells.mean((1, 3))


def _inside(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Even-odd rule: a ray to the right crosses the border an odd number of times.

    Each row of points notes in which step the border crosses it; parities then run along the row.
    """
    start, end = corners, np.roll(corners, -1, 0)
    crosses = (start[:, 1] > y) != (end[:, 1] > y)  # [points along y, sides]
    row, side = np.nonzero(crosses)
    (ax, ay), (bx, by) = start[side].T, end[side].T
    crossing = ax + (y[row, 0] - ay) * (bx - ax) / (by - ay)
    flips = np.zeros((len(y), x.shape[1] + 1), np.int64)
    np.add.at(flips, (row, np.searchsorted(x[0], crossing)), 1)
    return np.cumsum(flips, 1)[:, :-1] % 2 == 1


def _near(x: np.ndarray, y: np.ndarray, corners: np.ndarray, radius: float) -> np.ndarray:
    """Whether a point lies within `radius` of the border."""
    sides = np.roll(corners, -1, 0) - corners
    lengths = np.maximum(np.square(sides).sum(-1), 1e-12)
    near = np.zeros((len(y), x.shape[1]), bool)
    rows = max(1, LARGEST_ARRAY // (len(corners) * x.shape[1]))
    for first in range(0, len(y), rows):
        away_x = x - corners[:, :1]  # [sides, points]
        away_y = y[first : first + rows, :, None] - corners[:, 1:]  # [rows, sides, 1]
        along = ((away_x * sides[:, :1] + away_y * sides[:, 1:]) / lengths[:, None]).clip(0, 1)
        square = (away_x - along * sides[:, :1]) ** 2 + (away_y - along * sides[:, 1:]) ** 2
        near[first : first + rows] = (square <= radius**2).any(1)
    return near


def hull(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "corners 2"]:
    """Corners of the convex hull in order."""
    import cv2

    return cv2.convexHull(points.astype(np.float32))[:, 0]
