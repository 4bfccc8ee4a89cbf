"""Where everything on a face is, in head coordinates, for one person in one frame.

In: a person and one frame's signals. Out: a `Face`: named point lists. The one idea: the painter
and the truth use the same points, so the truth cannot differ from the picture.

Coordinates: pixels at 256, origin at the head's centre, y down, before the head's own movement.
The lips are two rings of 20 points in the order of the public 478-point face mesh.

Invariants: inner-lip gap in the middle = opening * MAX_GAP * mouth size; it is 0 when closed.
Tests: tests/data_pipeline/world/anatomy_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from data_pipeline.world import paint
from data_pipeline.world.people import Person

MAX_GAP = 31.0  # pixels at 256 between the inner lips, for a mouth half as wide as 28
BROW_PIXELS, CHEEK_PIXELS = 8.5, 6.5  # how far a raise of 1 moves them
Points = Float[np.ndarray, "p 2"]


@dataclasses.dataclass(frozen=True)
class Look:
    """The part of one frame's signals that a face shows."""

    opening: float = 0.0
    width: float = 0.0
    brow: float = 0.0
    lid: float = 1.0
    cheek: float = 0.0
    yaw: float = 0.0
    gaze: float = 0.0


@dataclasses.dataclass(frozen=True)
class Eye:
    """One eye: `side` is -1 on the picture's left."""

    side: int
    center: tuple[float, float]
    half: tuple[float, float]  # half width, half height when normally open
    upper: Points  # lid edge, left to right, 9 points
    lower: Points
    iris: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Face:
    """All points of a face."""

    outline: Points  # closed, 36+ points
    ears: tuple[tuple[float, float], tuple[float, float]]
    eyes: tuple[Eye, Eye]
    brows: tuple[Points, Points]  # upper edge 5, then lower edge 5, from outer to inner
    nose: Points  # tip, left wing, right wing, bridge top, bridge middle, base
    cheeks: Points  # left, right
    outer_lips: Points  # 20, mesh order
    inner_lips: Points  # 20, mesh order
    gap: float  # pixels between the inner lips
    lip_width: float  # pixels between the corners


def turned(points: Points, person: Person, look: Look, depth: float = 0.0) -> Points:
    """Move points of the face surface with the last part of a turn; `depth` is out of it."""
    if look.yaw == 0.0:
        return points
    radius = 1.18 * person.head_width
    angle = np.arcsin(np.clip(points[:, 0] / radius, -0.98, 0.98)) + look.yaw
    x = radius * np.sin(np.clip(angle, -1.57, 1.57)) + depth * np.sin(look.yaw)
    return np.stack([x, points[:, 1]], axis=1)


def face(person: Person, look: Look) -> Face:
    """Lay out one face."""
    gap = look.opening * MAX_GAP * person.mouth_half / 28.0
    outer, inner, half = _lips(person, look, gap)
    nose_y = person.eye_y + person.nose_length
    w, length = person.nose_width, person.nose_length
    nose = np.array(
        [
            [0, nose_y - 1],
            [-w, nose_y + 1],
            [w, nose_y + 1],
            [0, nose_y - length * 0.85],
            [0, nose_y - length * 0.45],
            [0, nose_y + 5],
        ]
    )
    lift = CHEEK_PIXELS * look.cheek
    cheeks = np.array([[-0.62, 0.0], [0.62, 0.0]]) * person.head_width + [0, 23 - lift]
    ear_y = person.eye_y + 8
    return Face(
        outline=_outline(person, gap),
        ears=((-person.head_width * 0.98, ear_y), (person.head_width * 0.98, ear_y)),
        eyes=(_eye(person, look, -1), _eye(person, look, 1)),
        brows=(_brow(person, look, -1), _brow(person, look, 1)),
        nose=turned(nose, person, look, depth=10.0),
        cheeks=turned(cheeks, person, look),
        outer_lips=turned(outer, person, look, depth=4.0),
        inner_lips=turned(inner, person, look, depth=4.0),
        gap=gap,
        lip_width=2 * half,
    )


def _outline(person: Person, gap: float) -> Points:
    w, h, drop = person.head_width, person.head_height, 0.28 * gap
    right = np.array(
        [
            [0, -h],
            [0.55 * w, -0.93 * h],
            [0.90 * w, -0.60 * h],
            [w, -0.12 * h],
            [0.985 * w, 0.22 * h],
            [person.jaw * w, 0.62 * h + 0.5 * drop],
            [person.chin * w, 0.93 * h + drop],
            [0, h + drop],
        ]
    )
    return paint.smooth(paint.mirror(right), steps=4)


def _eye(person: Person, look: Look, side: int) -> Eye:
    x, y = side * person.eye_gap, person.eye_y
    rx, ry = 13.2 * person.eye_size, 8.2 * person.eye_size
    s = np.linspace(-1, 1, 9)
    slant = -person.eye_slant * s * side
    arch = (1 - s**2) ** 0.75
    upper_y = y + slant - arch * ry * (1.9 * look.lid - 0.9)
    lower_y = y + slant + arch * ry * 0.86 - arch * 2.6 * max(look.cheek, 0.0)
    lower_y = np.maximum(lower_y, y + slant + 0.1)
    upper_y = np.minimum(upper_y, lower_y)
    place = lambda ys: turned(np.stack([x + s * rx, ys], axis=1), person, look, 2.0)  # noqa: E731
    ((ix, iy),) = turned(np.array([[x + look.gaze, y]]), person, look, 2.0)
    ((cx, cy),) = turned(np.array([[x, y]]), person, look, 2.0)
    return Eye(side, (cx, cy), (rx, ry), place(upper_y), place(lower_y), (ix, iy))


def _brow(person: Person, look: Look, side: int) -> Points:
    s = np.linspace(1, -1, 5)  # outer to inner
    x = side * (person.eye_gap + 1 + s * 15)
    middle = person.eye_y - 17.5 * (0.6 + 0.4 * person.eye_size) - BROW_PIXELS * look.brow
    arch = person.brow_arch * (1 - (s - 0.15) ** 2)
    y = middle - arch + person.brow_slant * s
    thick = person.brow_thick * (0.62 - 0.38 * s) * np.array([0.35, 0.85, 1, 1, 0.9])
    upper = np.stack([x, y - thick / 2], axis=1)
    lower = np.stack([x, y + thick / 2], axis=1)
    return turned(np.concatenate([upper, lower]), person, look, 3.0)


def _lips(person: Person, look: Look, gap: float) -> tuple[Points, Points, float]:
    spread, rounded = max(look.width, 0.0), max(-look.width, 0.0)
    half = person.mouth_half * (1 + 0.12 * spread - 0.27 * rounded) * (1 - 0.07 * look.opening)
    pout = 1 + 0.18 * rounded - 0.10 * spread - 0.12 * look.opening
    upper_thick, lower_thick = 5.6 * person.lip_full * pout, 7.2 * person.lip_full * pout
    up, down = 0.24 * gap, 0.76 * gap
    s = np.linspace(-0.8, 0.8, 9)
    rise = person.smile * (1 - 0.4 * rounded) * (1 + 0.25 * spread)
    smile = -rise * np.abs(s) ** 1.8
    bow = upper_thick * (1 - np.abs(s) ** 2.6) * (1 - 0.22 * np.exp(-((s / 0.16) ** 2)))
    arch = (1 - s**2) ** 0.6
    outer_up = np.stack([s * half, smile - bow - up * arch], axis=1)
    outer_low = np.stack([s * half, smile + lower_thick * (1 - s**2) ** 0.8 + down * arch], axis=1)
    inner_half = half * 0.88
    wave = 0.9 * np.exp(-((s / 0.2) ** 2)) * (1 - look.opening)
    inner_up = np.stack([s * inner_half, smile + wave - up * arch], axis=1)
    inner_low = np.stack([s * inner_half, smile + wave + down * arch], axis=1)
    corner, inner_corner = np.array([[half, -rise - 0.4]]), np.array([[inner_half, -0.86 * rise]])
    flip = np.array([[-1.0, 1.0]])
    base = np.array([0.0, person.mouth_y])
    outer = np.concatenate([corner * flip, outer_low, corner, outer_up[::-1]])
    inner = np.concatenate([inner_corner * flip, inner_low, inner_corner, inner_up[::-1]])
    return outer + base, inner + base, half
