"""Paint a face: eyes, brows, nose, mouth, beard, glasses, from the points of anatomy.py.

In: a canvas placed on the head, a person, a `Face`. Out: painted pixels. The one idea: flat
colours first, then one soft light over the whole head (portrait.py), as in a poster.

Tests: tests/data_pipeline/world/source_test.py.
"""

import numpy as np

from data_pipeline.world import paint
from data_pipeline.world.anatomy import Eye, Face
from data_pipeline.world.paint import Canvas
from data_pipeline.world.people import Color, Person


def paint_face(canvas: Canvas, person: Person, face: Face) -> None:
    """Everything on the front of the head, hair and light excepted."""
    _cheeks(canvas, person, face)
    _nose(canvas, person, face)
    for eye, brow in zip(face.eyes, face.brows, strict=True):
        _eye(canvas, person, eye)
        upper, lower = brow[:5], brow[5:]
        ring = np.concatenate(
            [paint.smooth(upper, 4, closed=False), paint.smooth(lower[::-1], 4, closed=False)]
        )
        canvas.fill(ring, person.brow)
    _beard(canvas, person, face)
    _mouth(canvas, person, face)
    if person.beard in ("full", "moustache", "goatee"):
        _moustache(canvas, person, face)
    if person.glasses != "none":
        _glasses(canvas, person, face)


def _cheeks(canvas: Canvas, person: Person, face: Face) -> None:
    rosy = paint.mix(person.skin, (226, 88, 84), 0.6)
    for x, y in face.cheeks:
        canvas.soft(paint.ellipse(x, y, 15, 10), rosy, person.cheek_blush, 9)
    if person.freckles:
        dot = paint.shade(person.skin, 0.80)
        for (x, y), side in zip(face.cheeks, (-1, 1), strict=True):
            for dx, dy in ((-8, -2), (-2, -6), (3, 0), (8, -5), (-3, 4), (10, 2)):
                canvas.disc(x + side * dx, y + dy - 3, 1.3, dot)
    if person.mole:
        canvas.disc(person.mole * 26 + face.nose[0, 0], face.nose[5, 1] + 6, 1.9, (84, 52, 44))


def _nose(canvas: Canvas, person: Person, face: Face) -> None:
    tip, left, right, top, middle, base = face.nose
    dark = paint.mix(paint.shade(person.skin, 0.80), (150, 60, 50), 0.12)
    light = paint.shade(person.skin, 1.22)
    by = paint.shift
    side = np.array([tip, by(right, 1, -3), [right[0] + 1, right[1] + 1], base, by(middle, 2, 0)])
    canvas.soft(paint.smooth(side, 4), dark, 0.55, 5)
    canvas.soft(
        paint.ellipse((top[0] + tip[0]) / 2 - 1, (top[1] + tip[1]) / 2, 3.2, 12), light, 0.5, 5
    )
    wings = np.array(
        [left, by(left, 2, 4), by(base, -3, -0.5), by(base, 3, -0.5), by(right, -2, 4), right]
    )
    canvas.stroke(paint.smooth(wings, 5, closed=False), dark, 2)
    hole = paint.shade(person.skin, 0.52)
    reach = person.nose_width * 0.48
    for direction in (-1, 1):
        canvas.fill(paint.ellipse(base[0] + direction * reach, base[1] - 2.2, 2.6, 1.5, 10), hole)


def _eye(canvas: Canvas, person: Person, eye: Eye) -> None:
    x, y = eye.center
    rx, ry = eye.half
    lid_color = paint.mix(paint.shade(person.skin, 0.86), (150, 70, 70), 0.12)
    under = paint.shade(person.skin, 0.95)
    open_ring = np.concatenate(
        [paint.smooth(eye.upper, 3, closed=False), paint.smooth(eye.lower[::-1], 3, closed=False)]
    )
    # socket: a soft shadow that makes the eye lie in the face
    canvas.soft(paint.ellipse(x, y - 3, rx * 1.25, ry * 1.5), lid_color, 0.45, 8)
    gap = float((eye.lower[:, 1] - eye.upper[:, 1]).max())
    if gap > 1.0:
        canvas.fill(open_ring, (250, 247, 243))
        _iris(canvas, person, eye, open_ring)
    crease = eye.upper * [1, 1] + [0, -2.2]
    crease = np.stack([crease[:, 0], np.minimum(crease[:, 1], y - ry * 0.75)], axis=1)
    canvas.stroke(paint.smooth(crease[2:7], 3, closed=False), lid_color, 1)
    lash = paint.mix(person.brow, (24, 16, 18), 0.75)
    canvas.stroke(paint.smooth(eye.upper, 3, closed=False), lash, 2)
    outer = eye.upper[-1] if eye.side > 0 else eye.upper[0]
    tick = np.array([outer, paint.shift(outer, eye.side * 2.6, -2.2)])
    canvas.stroke(tick, lash, 2)
    canvas.stroke(paint.smooth(eye.lower, 3, closed=False), under, 1)


def _iris(canvas: Canvas, person: Person, eye: Eye, ring: np.ndarray) -> None:
    """The iris, clipped to the open eye: painted on a copy and carried over with a mask."""
    import cv2

    radius = 7.6 * (0.4 + 0.6 * person.eye_size)
    picture = canvas.to_picture(ring)
    low = np.maximum(np.floor(picture.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(picture.max(0)).astype(int) + 2, canvas.pixels.shape[1::-1])
    if (high - low).min() < 2:
        return
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    before = canvas.pixels[window].copy()
    x, y = eye.iris
    canvas.disc(x, y, radius, paint.shade(person.eye, 0.6))
    canvas.disc(x, y, radius - 1.2, person.eye)
    canvas.disc(x, y + 1.5, radius * 0.62, paint.shade(person.eye, 1.25))
    canvas.disc(x, y, radius * 0.52, (18, 14, 18))
    canvas.disc(x - 2.4, y - 2.6, 2.1, (255, 255, 255))
    mask = np.zeros(before.shape[:2], np.uint8)
    fixed = np.round((picture - 0.5 - low) * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], (255,), cv2.LINE_AA, 4)
    weight = mask.astype(np.uint16)[..., None]
    mixed = (canvas.pixels[window] * weight + before * (255 - weight)) // 255
    canvas.pixels[window] = mixed.astype(np.uint8)


def _mouth(canvas: Canvas, person: Person, face: Face) -> None:
    outer, inner = paint.smooth(face.outer_lips, 3), paint.smooth(face.inner_lips, 3)
    x, y = face.outer_lips[5]
    canvas.soft(paint.ellipse(x, y + 5, 13, 3.5), paint.shade(person.skin, 0.75), 0.5, 5)
    lip = paint.mix(person.lips, person.skin, 0.18)
    canvas.fill(outer, lip)
    # the upper lip lies in shadow, the lower one catches light
    upper = np.concatenate([face.outer_lips[10:], face.outer_lips[:1], face.inner_lips[:1]])
    upper = np.concatenate([upper, face.inner_lips[:9:-1]])
    canvas.fill(upper, paint.shade(lip, 0.86))
    middle = (face.outer_lips[5] + face.inner_lips[5]) / 2
    canvas.soft(paint.ellipse(middle[0] - 1, middle[1], 8, 2.0), paint.shade(lip, 1.45), 0.6, 4)
    dark = paint.shade(lip, 0.45)
    if face.gap < 1.2:
        line = np.concatenate([face.outer_lips[:1], face.inner_lips[1:10], face.outer_lips[10:11]])
        canvas.stroke(paint.smooth(line, 3, closed=False), dark, 2)
        return
    canvas.fill(inner, (66, 18, 26))
    top = face.inner_lips[:10:-1]  # left to right
    low = face.inner_lips[1:10]
    room = low[:, 1] - top[:, 1]
    if face.gap > 9:
        height = np.clip(room - 0.52 * face.gap, 0, None) * 0.9
        tongue = np.concatenate([low[1:-1] - [0, 1], (low - height[:, None] * [0, 1])[1:-1][::-1]])
        canvas.fill(tongue, (196, 84, 88))
    if face.gap > 3:
        teeth = np.minimum(room * 0.42, 6.5)[:, None] * [0, 1]
        canvas.fill(np.concatenate([top, (top + teeth)[::-1]]), (248, 244, 236))
    canvas.stroke(inner, dark, 1, closed=True)


def _beard(canvas: Canvas, person: Person, face: Face) -> None:
    if person.beard in ("none", "moustache"):
        return
    outline = face.outline
    w, h = person.head_width, person.head_height
    mouth = person.mouth_y
    if person.beard == "goatee":
        low = min(mouth + 19 + 0.7 * face.gap, outline[:, 1].max() - 9)
        chin = paint.ellipse(face.outer_lips[5, 0], low, 15, 13)
        canvas.fill(chin, paint.shade(person.hair, 0.82))
        return
    below = outline[outline[:, 1] > 0.10 * h]
    right, left = below[below[:, 0] > 0], below[below[:, 0] <= 0]
    right, left = right[np.argsort(right[:, 1])], left[np.argsort(-left[:, 1])]
    upper = np.array(
        [
            [-0.80 * w, 0.26 * h],
            [-0.62 * w, mouth - 10],
            [-0.30 * w, mouth - 14],
            [0, mouth - 12],
            [0.30 * w, mouth - 14],
            [0.62 * w, mouth - 10],
            [0.80 * w, 0.26 * h],
        ]
    )
    if person.beard == "full":
        right, left = right * [1.02, 1.06], left * [1.02, 1.06]
    ring = np.concatenate([paint.smooth(upper, 3, closed=False), right, left])
    if person.beard == "full":
        canvas.fill(ring, paint.shade(person.hair, 0.82))
    else:
        canvas.soft(ring * [0.94, 0.96], paint.mix(person.hair, person.skin, 0.35), 0.5, 4)


def _moustache(canvas: Canvas, person: Person, face: Face) -> None:
    top = face.outer_lips[15]
    base = face.nose[5]
    y = max((top[1] + base[1]) / 2 + 1.5, base[1] + 3)
    points = np.array([[0, -2.5], [11, -3.5], [24, 3.5], [12, 4.0], [0, 2.2]])
    ring = paint.shift(paint.smooth(paint.mirror(points), 3), top[0], y)
    canvas.fill(ring, paint.shade(person.hair, 0.74))


def _glasses(canvas: Canvas, person: Person, face: Face) -> None:
    color = person.glasses_color
    for eye in face.eyes:
        x, y = eye.center
        y = y + 1
        if person.glasses == "round":
            ring = paint.ellipse(x, y, 19, 18, 24)
        elif person.glasses == "square":
            corner = np.array([[-19, -13], [19, -13], [18, 14], [-18, 14]], float)
            ring = paint.shift(paint.smooth(_rounded(corner), 3), x, y)
        else:
            corner = np.array([[-18, -7], [18, -7], [16, 14], [-16, 14]], float)
            ring = paint.shift(paint.smooth(_rounded(corner), 3), x, y)
        canvas.soft(ring, (255, 255, 255), 0.12, 1)
        canvas.stroke(ring, color, 3 if person.glasses == "square" else 2, closed=True)
        edge = eye.side * person.head_width * 0.98
        canvas.stroke(np.array([[x + eye.side * 18, y - 3], [edge, y - 4]]), color, 2)
    (left, y0), (right, y1) = face.eyes[0].center, face.eyes[1].center
    bridge = np.array([[left + 18, y0 - 1], [(left + right) / 2, y0 - 4], [right - 18, y1 - 1]])
    canvas.stroke(paint.smooth(bridge, 4, closed=False), color, 2)


def _rounded(corners: np.ndarray) -> np.ndarray:
    after = np.roll(corners, -1, axis=0)
    return np.stack([corners * 0.72 + after * 0.28, corners * 0.28 + after * 0.72], 1).reshape(
        -1, 2
    )


def paint_ears(canvas: Canvas, person: Person, face: Face) -> None:
    """Ears behind the face's edge."""
    inner = paint.mix(paint.shade(person.skin, 0.78), (190, 80, 70), 0.15)
    for side, (x, y) in zip((-1, 1), face.ears, strict=True):
        canvas.fill(paint.ellipse(x, y, 10 * person.ear, 16 * person.ear), _tone(person.skin))
        canvas.fill(paint.ellipse(x + side * 2, y, 5 * person.ear, 10 * person.ear), inner)
        if person.earrings:
            canvas.disc(x + side * 4, y + 17 * person.ear, 3.2, (240, 200, 90))


def paint_turned_ear(canvas: Canvas, person: Person, face: Face, yaw: float) -> None:
    """The ear that a turned head shows."""
    for side, (_, y) in zip((-1, 1), face.ears, strict=True):
        angle = side * np.pi / 2 + yaw
        if np.cos(angle) < -0.3:
            continue
        x = 0.98 * person.head_width * np.sin(angle)
        wide = 10 * person.ear * max(0.5, abs(np.cos(angle)))
        canvas.fill(paint.ellipse(x, y, wide, 16 * person.ear), _tone(person.skin))
        inner = paint.shade(person.skin, 0.78)
        canvas.fill(paint.ellipse(x, y, 0.5 * wide, 10 * person.ear), inner)


def _tone(skin: Color) -> Color:
    return paint.shade(skin, 0.93)
