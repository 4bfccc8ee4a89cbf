"""Hair: what lies behind the head, what lies on it, and the back of the head.

In: a canvas placed on the head and a person. Out: painted pixels. The one idea: every style is
a few outlines built from the head's own width and height, so it fits every head.

Tests: tests/data_pipeline/world/source_test.py.
"""

import numpy as np

from data_pipeline.world import paint
from data_pipeline.world.anatomy import Face
from data_pipeline.world.paint import Canvas
from data_pipeline.world.people import Color, Person

Points = np.ndarray
# name: extra width, extra height, lower end, hairline from right to left (head widths, pixels)
_CAPS: dict[str, tuple[float, float, float, tuple[tuple[float, float], ...]]] = {
    "crop": (2, 5, -6, (
        (0.93, -22), (0.84, -44), (0.40, -55),
        (-0.40, -55), (-0.84, -44), (-0.93, -22),
    )),
    "side": (4, 11, 0, (
        (0.90, -22), (0.80, -36), (0.30, -42),
        (-0.35, -60), (-0.80, -46), (-0.92, -20),
    )),
    "curls": (7, 12, -2, (
        (0.92, -18), (0.80, -40), (0.40, -46),
        (-0.40, -46), (-0.80, -40), (-0.92, -18),
    )),
    "bob": (8, 10, 20, (
        (0.86, 16), (0.82, -20), (0.45, -48), (0.10, -58),
        (-0.50, -44), (-0.82, -18), (-0.86, 16),
    )),
    "long": (8, 9, 24, (
        (0.87, 18), (0.80, -18), (0.42, -46), (0.0, -64),
        (-0.42, -46), (-0.80, -18), (-0.87, 18),
    )),
    "waves": (10, 12, 24, (
        (0.86, 16), (0.78, -20), (0.50, -40), (0.20, -60),
        (-0.46, -48), (-0.80, -18), (-0.87, 18),
    )),
    "bun": (3, 6, -8, (
        (0.94, -16), (0.82, -44), (0.36, -58),
        (-0.36, -58), (-0.82, -44), (-0.94, -16),
    )),
    "spikes": (3, 8, -8, (
        (0.93, -20), (0.80, -44), (0.50, -38), (0.25, -50), (0.0, -40),
        (-0.25, -52), (-0.5, -40), (-0.80, -46), (-0.93, -20),
    )),
    "fringe": (9, 10, 22, (
        (0.86, 18), (0.84, -20), (0.60, -31), (0.0, -34),
        (-0.60, -31), (-0.84, -20), (-0.86, 18),
    )),
    "afro": (12, 14, -4, (
        (0.93, -16), (0.80, -42), (0.40, -50),
        (-0.40, -50), (-0.80, -42), (-0.93, -16),
    )),
    "quiff": (3, 22, -6, (
        (0.93, -20), (0.82, -46), (0.50, -58), (-0.10, -52),
        (-0.60, -62), (-0.84, -44), (-0.93, -20),
    )),
    "tails": (4, 8, -2, (
        (0.92, -16), (0.74, -38), (0.30, -50), (0.0, -64),
        (-0.30, -50), (-0.74, -38), (-0.92, -16),
    )),
}  # fmt: skip
_LONG = {"long": 150.0, "waves": 128.0, "bob": 62.0, "fringe": 70.0}


def covers_ears(person: Person) -> bool:
    """Whether a style hides the ears."""
    return person.hair_style in _LONG or person.hair_style == "afro"


def paint_behind(canvas: Canvas, person: Person, sway: float = 0.0) -> None:
    """Hair that hangs behind the neck; `sway` moves its ends (pixels)."""
    w, h, volume = person.head_width, person.head_height, person.hair_volume
    dark = paint.shade(person.hair, 0.72)
    style = person.hair_style
    if style in _LONG:
        length = _LONG[style]
        wide = w * (1.10 + 0.12 * volume)
        right = np.array(
            [[0, -h - 10], [wide * 0.9, -h * 0.55], [wide * 1.05, 0], [wide * 1.06, length * 0.6]]
        )
        tip = np.array([[wide * 0.95, length], [0, length + 4]])
        ring = paint.smooth(paint.mirror(np.concatenate([right, tip])), 5)
        ring[:, 0] += sway * np.clip(ring[:, 1] / 100, 0, 1.5)
        canvas.fill(ring, dark)
        if style == "waves":
            for y in np.arange(0, length, 24):
                for side in (-1, 1):
                    canvas.disc(side * wide * 0.95 + sway * y / 100, y, 17, dark)
    elif style == "tails":
        for side in (-1, 1):
            ring = paint.ellipse(side * (w + 20) + sway * 0.5, 22, 19 * volume, 44)
            canvas.fill(ring, dark)
            canvas.fill(paint.ellipse(side * (w + 16) + sway * 0.5, 18, 10, 34), person.hair)
            canvas.disc(side * (w + 6), -18, 8, (226, 92, 110))
    elif style == "bun":
        canvas.disc(0, -h - 16 * volume, 25 * volume, dark)
        canvas.disc(-3, -h - 19 * volume, 19 * volume, person.hair)
    elif style == "afro":
        canvas.fill(paint.ellipse(0, -26, w + 27 * volume, h * 0.95 + 12 * volume, 40), dark)
        _puffs(canvas, person, 0.98 * w + 25 * volume, h * 0.95 + 10 * volume, -26.0, 15, dark)


def paint_front(canvas: Canvas, person: Person) -> None:
    """Hair on the front of the head."""
    style = person.hair_style
    if style == "bald":
        canvas.soft(paint.ellipse(-14, -56, 16, 7), paint.shade(person.skin, 1.5), 0.5, 8)
        return
    ring = _cap(person)
    canvas.fill(ring, person.hair)
    if style in ("curls", "afro"):
        _curls(canvas, person)
    if style == "spikes":
        _spikes(canvas, person)
    if style in _LONG:
        _curtains(canvas, person)
    _shine(canvas, person)


def _arc(person: Person, wide: float, high: float, low: float) -> Points:
    """Over the top of the head from the left temple to the right one."""
    angle = np.linspace(np.pi, 0, 25)
    x = (person.head_width + wide) * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.86
    y = low - (person.head_height + high + low) * np.sin(angle) ** 0.74
    return np.stack([x, y], axis=1)


def _cap(person: Person) -> Points:
    w, volume, side = person.head_width, person.hair_volume, person.hair_side
    wide, high, low, line = _CAPS[person.hair_style]
    arc = _arc(person, wide * volume, high * volume, low)
    if person.hair_style == "quiff":
        arc[:, 1] -= 9 * np.exp(-(((arc[:, 0] * side + 18) / 26) ** 2))
    hairline = np.array(line) * [w, 1]
    # heads differ in height; the hairline follows half of it
    hairline[:, 1] -= 0.5 * (person.head_height - 76)
    hairline = paint.smooth(hairline, 4, closed=False)
    ring = np.concatenate([arc, hairline])
    return ring * [side, 1]


def _curls(canvas: Canvas, person: Person) -> None:
    w, h, volume = person.head_width, person.head_height, person.hair_volume
    draw = np.random.default_rng(person.seed)
    tones = [paint.shade(person.hair, f) for f in (0.86, 1.0, 1.1)]
    for layer, tone in enumerate(tones):
        for angle in np.linspace(0.02, np.pi - 0.02, 11 - layer):
            wobble = draw.uniform(-3, 3, 2)
            reach = 1.06 - 0.13 * layer
            x = (w + 6) * reach * np.cos(angle) + wobble[0]
            y = -8 - (h + 2) * reach * np.sin(angle) ** 0.8 + wobble[1]
            canvas.disc(x, min(y, -20 + 10 * abs(np.cos(angle))), 12 * volume - 2 * layer, tone)


def _puffs(
    canvas: Canvas, person: Person, rx: float, ry: float, y0: float, radius: float, tone: Color
) -> None:
    for angle in np.linspace(-0.5, np.pi + 0.5, 18):
        canvas.disc(rx * np.cos(angle) * 0.96, y0 - ry * np.sin(angle) * 0.96, radius, tone)


def _spikes(canvas: Canvas, person: Person) -> None:
    w, h, volume = person.head_width, person.head_height, person.hair_volume
    for k, angle in enumerate(np.linspace(0.35, np.pi - 0.35, 8)):
        base = np.array([np.cos(angle) * w * 0.95, -h * 0.97 * np.sin(angle)])
        out = np.array([np.cos(angle), -np.sin(angle)])
        flat = np.array([-out[1], out[0]])
        tip = base + out * (20 + 5 * (k % 2)) * volume
        spike = np.stack([base - flat * 13, tip + flat * 3, base + flat * 13, base - out * 12])
        canvas.fill(spike, person.hair)


def _curtains(canvas: Canvas, person: Person) -> None:
    """Side hair in front of the cheeks' edges."""
    w, length = person.head_width, _LONG[person.hair_style]
    tone = paint.shade(person.hair, 0.94)
    for side in (-1, 1):
        edge = np.array(
            [
                [0.80 * w, -34],
                [1.14 * w, -20],
                [1.20 * w, 20],
                [1.16 * w, min(length, 92) * 0.9],
                [0.98 * w, min(length, 92)],
                [0.93 * w, 40],
                [0.90 * w, 0],
            ]
        )
        canvas.fill(paint.smooth(edge, 4) * [side, 1], tone)


def _shine(canvas: Canvas, person: Person) -> None:
    if person.hair_style in ("curls", "afro"):
        return
    w, h = person.head_width, person.head_height
    angle = np.linspace(2.35, 1.25, 7)
    upper = np.stack([0.86 * w * np.cos(angle), -0.98 * h * np.sin(angle) + 2], axis=1)
    lower = np.stack([0.82 * w * np.cos(angle), -0.88 * h * np.sin(angle) + 3], axis=1)
    ring = np.concatenate([upper, lower[::-1]])
    canvas.soft(ring, paint.shade(person.hair, 1.35), 0.45, 6)


def paint_back(canvas: Canvas, person: Person, face: Face) -> None:
    """The head seen from behind."""
    w, h = person.head_width, person.head_height
    if person.hair_style == "bald":
        canvas.fill(face.outline, person.skin)
        canvas.soft(paint.ellipse(0, 60, 30, 6), paint.shade(person.skin, 0.7), 0.5, 6)
        return
    skull = _arc(person, 4, 8, 10)
    nape = np.array([[0.96, 30], [0.62, 62], [0.3, 70], [-0.3, 70], [-0.62, 62], [-0.96, 30]])
    low = nape * [w, 1]
    canvas.fill(face.outline, person.skin)
    canvas.fill(np.concatenate([skull, paint.smooth(low, 4, closed=False)]), person.hair)
    dark = paint.shade(person.hair, 0.8)
    for x in (-0.6, -0.3, 0.0, 0.3, 0.6):
        strand = np.array([[x * w * 0.25, -h * 0.8], [x * w, -h * 0.2], [x * w * 1.05, 45]])
        canvas.stroke(paint.smooth(strand, 6, closed=False), dark, 1)
    if person.hair_style in _LONG:
        length = _LONG[person.hair_style]
        right = np.array(
            [[0, -40], [1.05 * w, -10], [1.15 * w, 30], [1.02 * w, length], [0, length + 5]]
        )
        canvas.fill(paint.smooth(paint.mirror(right), 4), person.hair)
    if person.hair_style in ("curls", "afro"):
        _curls(canvas, person)
    _shine(canvas, person)
