"""Painting: smooth, antialiased shapes on a uint8 picture.

In: points [p 2] in local coordinates. Out: the canvas, changed in place. The one idea: shapes are
given where they are on the head or body, and the canvas moves them with its current 2x3 matrix,
so nothing that draws needs to know about motion. Positions are kept to 1/16 pixel, edges are
antialiased: motion of a tenth of a pixel shows.

Tests: tests/data_pipeline/world/source_test.py (sub-pixel motion, colours in range).
"""

import functools
import typing

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.world.people import Color

_SHIFT = 4
_ONE = 1 << _SHIFT
Points = Float[np.ndarray, "p 2"]


@functools.cache
def _cv2() -> typing.Any:
    import cv2

    cv2.setNumThreads(1)  # many small shapes; the workers are the parallelism
    return cv2


class Canvas:
    """A picture and the transformation of what is painted next."""

    def __init__(self, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Paint on these pixels (changed in place)."""
        self.pixels = pixels
        self.move(np.eye(2, 3))

    @property
    def matrix(self) -> np.ndarray:
        """Local coordinates to pixels, [2 3]."""
        return self._matrix

    def move(self, matrix: np.ndarray) -> None:
        """Set the transformation."""
        self._matrix = matrix
        # a pixel's centre is at +0.5 here and at 0 in OpenCV
        self._turn = np.ascontiguousarray(matrix[:, :2].T * _ONE)
        self._shift = (matrix[:, 2] - 0.5) * _ONE

    def place(self, x: float, y: float, angle: float = 0.0, pivot: float = 0.0) -> None:
        """Put the local origin at (x, y), turned by `angle` around the local point (0, pivot)."""
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s], [s, c]])
        offset = np.array([x, y]) + np.array([0, pivot]) - turn @ np.array([0, pivot])
        self.move(np.concatenate([turn, offset[:, None]], axis=1))

    def to_picture(self, points: Points) -> Points:
        """Local coordinates to pixels."""
        return points @ self._matrix[:, :2].T + self._matrix[:, 2]

    def _fixed(self, points: Points) -> np.ndarray:
        return np.rint(points @ self._turn + self._shift).astype(np.int32)

    def fill(self, points: Points, color: Color) -> None:
        """Fill a polygon."""
        cv2 = _cv2()
        cv2.fillPoly(self.pixels, [self._fixed(points)], color, cv2.LINE_AA, _SHIFT)

    def stroke(self, points: Points, color: Color, thickness: int, closed: bool = False) -> None:
        """Draw a line through points, `thickness` whole pixels wide."""
        cv2 = _cv2()
        cv2.polylines(
            self.pixels, [self._fixed(points)], closed, color, thickness, cv2.LINE_AA, _SHIFT
        )

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        """Fill a circle."""
        if radius < 4:  # OpenCV draws small circles as diamonds
            self.fill(ellipse(x, y, radius, radius, 12), color)
            return
        cv2 = _cv2()
        ((u, v),) = self._fixed(np.array([[x, y]]))
        cv2.circle(
            self.pixels, (int(u), int(v)), int(radius * _ONE), color, -1, cv2.LINE_AA, _SHIFT
        )

    def soft(self, points: Points, color: Color, alpha: float, blur: float) -> None:
        """Blend a polygon with blurred edges over the picture."""
        cv2 = _cv2()
        shape = self.to_picture(points) - 0.5
        height, width = self.pixels.shape[:2]
        low = np.maximum(np.floor(shape.min(0) - 2 * blur).astype(int), 0)
        high = np.minimum(np.ceil(shape.max(0) + 2 * blur).astype(int) + 1, (width, height))
        if (high - low).min() < 2:
            return
        # half resolution is enough for something blurred
        size = np.maximum((high - low) // 2, 1)
        mask = np.zeros((size[1], size[0]), np.uint8)
        scaled = (shape - low) * (size / (high - low))
        cv2.fillPoly(mask, [np.round(scaled * _ONE).astype(np.int32)], (255,), cv2.LINE_AA, _SHIFT)
        reach = max(int(blur), 1)
        mask = cv2.blur(cv2.blur(mask, (reach, reach)), (reach, reach))
        mask = cv2.resize(mask, tuple(int(v) for v in high - low), interpolation=cv2.INTER_LINEAR)
        part = self.pixels[low[1] : high[1], low[0] : high[0]]
        # 16-bit arithmetic with 7 bits of weight: four times as fast as floats
        table = np.round(np.arange(256) * (alpha * 127 / 255)).astype(np.int16)
        delta = np.array(color, np.int16) - part
        delta *= table[mask][..., None]
        delta += 64
        delta >>= 7
        delta += part
        part[:] = delta


def smooth(points: Points, steps: int = 6, closed: bool = True) -> Points:
    """A Catmull-Rom curve through control points, `steps` points per piece."""
    if closed:
        ring = np.concatenate([points[-1:], points, points[:2]])
    else:
        first, last = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
        ring = np.concatenate([first, points, last])
    weights = _weights(steps)  # [steps 4]
    count = len(ring) - 3
    windows = ring[np.arange(4)[:, None] + np.arange(count)].reshape(4, -1)  # [4 (n 2)]
    curve = (weights @ windows).reshape(steps, count, 2).transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


@functools.cache
def _weights(steps: int) -> np.ndarray:
    t = np.arange(steps)[:, None] / steps
    return 0.5 * np.concatenate(
        [
            -t + 2 * t**2 - t**3,
            2 - 5 * t**2 + 3 * t**3,
            t + 4 * t**2 - 3 * t**3,
            -(t**2) + t**3,
        ],
        axis=1,
    )


def mirror(points: Points) -> Points:
    """Right half (top to bottom) to a whole outline."""
    left = points[::-1] * np.array([-1.0, 1.0])
    inner = left[1:-1] if abs(points[0, 0]) < 1e-9 and abs(points[-1, 0]) < 1e-9 else left
    return np.concatenate([points, inner])


def shift(points: Float[np.ndarray, "*p 2"], x: float, y: float) -> Float[np.ndarray, "*p 2"]:
    """Points (or one point) moved by (x, y)."""
    return points + np.array([x, y])


def ellipse(x: float, y: float, rx: float, ry: float, count: int = 20) -> Points:
    """Points of an ellipse."""
    unit = _circle(count)
    return unit * np.array([rx, ry]) + np.array([x, y])


@functools.cache
def _circle(count: int) -> np.ndarray:
    angle = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def shade(color: Color, factor: float) -> Color:
    """A darker (< 1) or lighter (> 1) tone of a colour."""
    if factor <= 1:
        return tuple(int(v * factor) for v in color)  # type: ignore[return-value]
    return tuple(int(v + (255 - v) * min(factor - 1, 1)) for v in color)  # type: ignore[return-value]


def mix(a: Color, b: Color, amount: float) -> Color:
    """Between two colours: 0 = a, 1 = b."""
    return tuple(int(u + (v - u) * amount) for u, v in zip(a, b, strict=True))  # type: ignore[return-value]
