"""Regions as shares of latent cells: polygons of every frame in, uint8 masks [t h w] out.

A region is a polygon per frame, dilated by a share of its own height. It is sampled on a grid finer
than the pixels, averaged over the pixel frames that make each latent frame (the first alone, then
fours, as the causal codec groups them) and over the 8 x 8 pixels of each cell. So a thin closed
mouth keeps its true share instead of vanishing between pixels.

Shapes: polygon [f points 2] as x, y / (width, height); NaN frames have no region.
Invariants: the area of a convex polygon is exact to the sampling; the mask of latent frame 0 knows
pixel frame 0 only.
Source: project decision on the lip region (paper section 3.3: M_lip from the detected lips).
Tests: tests/data_pipeline/annotate/mask_test.py.
"""

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.schema import SPACE_STRIDE, latent_frames

SAMPLES = 4  # sample points along each side of a pixel


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
    for share, corners in zip(shares, polygon * np.float32([width, height]), strict=True):
        if np.isfinite(corners).all():
            _fill(share, corners.astype(np.float64), dilation)
    return shares


def latent_mask(shares: Float[np.ndarray, "f H W"]) -> UInt8[np.ndarray, "t h w"]:
    """Mean over each latent frame's pixel frames and each cell's pixels, as 0-255."""
    frames, height, width = shares.shape
    h, w = height // SPACE_STRIDE, width // SPACE_STRIDE
    cells = shares.reshape(frames, h, SPACE_STRIDE, w, SPACE_STRIDE).mean((2, 4))
    rest = cells[1:].reshape(latent_frames(frames) - 1, -1, h, w)
    rest = rest.mean(1) if len(rest) else rest.reshape(0, h, w)
    return np.rint(np.concatenate([cells[:1], rest]) * 255).astype(np.uint8)


def lip_mask(
    outer_lip: Float[np.ndarray, "f points 2"], height: int, width: int
) -> UInt8[np.ndarray, "t h w"]:
    """The lip region: outer lip, dilated by 10 % of its height in each frame."""
    return latent_mask(region(outer_lip, height, width, dilation=0.1))


def face_mask(
    landmarks: Float[np.ndarray, "f points 2"], height: int, width: int
) -> UInt8[np.ndarray, "t h w"]:
    """The face region: convex hull of the landmarks that are known."""
    shares = np.zeros((len(landmarks), height, width), np.float32)
    for share, points in zip(shares, landmarks, strict=True):
        known = points[np.isfinite(points).all(-1)]
        if len(known) > 2:
            share[:] = region(hull(known)[None], height, width)[0]
    return latent_mask(shares)


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
    """Even-odd rule: a ray to the right crosses the border an odd number of times."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if ay != by:
            crossing = ax + (y - ay) * ((bx - ax) / (by - ay))
            inside ^= ((ay > y) != (by > y)) & (x < crossing)
    return inside


def _near(x: np.ndarray, y: np.ndarray, corners: np.ndarray, radius: float) -> np.ndarray:
    """Whether a point lies within `radius` of the border."""
    near = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        side = b - a
        along = ((x - a[0]) * side[0] + (y - a[1]) * side[1]) / max(side @ side, 1e-12)
        along = along.clip(0, 1)
        near |= (x - a[0] - along * side[0]) ** 2 + (y - a[1] - along * side[1]) ** 2 <= radius**2
    return near


def hull(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "corners 2"]:
    """Corners of the convex hull in order.

    Monotone chain: sort, then keep only turns to one side, from both ends.
    """
    ordered = np.unique(points, axis=0)

    def chain(sequence: np.ndarray) -> list[np.ndarray]:
        kept: list[np.ndarray] = []
        for point in sequence:
            while len(kept) > 1 and _turn(kept[-2], kept[-1], point) <= 0:
                kept.pop()
            kept.append(point)
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]), points.dtype)


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
