"""One frame: a person in a scene at one moment.

In: person, scene, the frame's signals. Out: uint8 [256 256 3] and the `Pose` (where head and body
are). The one idea: paint back to front; a head that looks away is the painted front and back of
the head rolled around a cylinder, row by row.

Invariants: the same arguments give the same pixels; the cover is in front of everything.
Tests: tests/data_pipeline/world/source_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8

from data_pipeline.world import anatomy, clothing, features, hair, scene
from data_pipeline.world.anatomy import Face, Look
from data_pipeline.world.motion import Signals
from data_pipeline.world.paint import Canvas
from data_pipeline.world.people import Person
from data_pipeline.world.scene import Scene

SIZE = 256
CENTER = (128.0, 118.0)
_PIVOT = 92.0  # the head tilts around the base of the neck
_SMALL_YAW = 0.35  # below, the face slides on the head; above, the head is rolled


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where things came to lie in one frame."""

    face: Face
    head: Float[np.ndarray, "2 3"]  # head coordinates to pixels
    shoulders: Float[np.ndarray, "2 2"]  # pixels; left, right of the person
    yaw: float


class Studio:
    """Paints the frames of one clip; keeps what does not move."""

    def __init__(self, person: Person, surroundings: Scene) -> None:
        """Paint the backdrop and the light once."""
        self.person, self.scene = person, surroundings
        self._backdrop = scene.backdrop(surroundings, SIZE)
        self._light = _head_light(person)

    def frame(self, signals: Signals, i: int) -> tuple[UInt8[np.ndarray, "h w 3"], Pose]:
        """Paint frame i."""
        s, person = signals, self.person
        yaw = float(s.yaw[i])
        away = abs(yaw) > _SMALL_YAW
        look = Look(
            opening=float(s.opening[i]),
            width=float(s.width[i]),
            brow=float(s.brow[i]),
            lid=float(s.lid[i]),
            cheek=float(s.cheek[i]),
            yaw=0.0 if away else yaw,
            gaze=float(s.gaze_x[i]),
        )
        face = anatomy.face(person, look)
        canvas = Canvas(self._place_backdrop(float(s.scene_x[i])))
        scene.paint_object(canvas, self.scene, float(s.object_swing[i]), 1.3 * float(s.scene_x[i]))
        head = (CENTER[0] + float(s.head_x[i]), CENTER[1] + float(s.head_y[i]), float(s.tilt[i]))
        body_x = float(s.body_x[i])
        canvas.place(*head, pivot=_PIVOT)
        matrix = canvas.matrix
        hair.paint_behind(canvas, person, sway=-0.5 * (float(s.head_x[i]) - body_x))
        canvas.place(CENTER[0] + body_x, CENTER[1])
        lift = float(s.shoulder[i])
        clothing.paint_body(canvas, person, self.scene, lift, float(s.head_x[i]) - body_x)
        shoulders = canvas.to_picture(clothing.SHOULDERS - [0, lift])
        canvas.move(matrix)
        if away:
            canvas.pixels = self._rolled(canvas, face, yaw)
        else:
            self._paint_head(canvas, face)
        scene.paint_cover(canvas, self.scene, person.skin, float(s.cover[i]))
        return canvas.pixels, Pose(face, matrix, shoulders, yaw)

    def _place_backdrop(self, shift: float) -> UInt8[np.ndarray, "h w 3"]:
        import cv2

        move = np.array([[1, 0, shift - scene.MARGIN], [0, 1, -scene.MARGIN]], np.float64)
        return cv2.warpAffine(self._backdrop, move, (SIZE, SIZE), flags=cv2.INTER_LINEAR)

    def _paint_head(self, canvas: Canvas, face: Face) -> None:
        person = self.person
        features.paint_ears(canvas, person, face)
        canvas.fill(face.outline, person.skin)
        features.paint_face(canvas, person, face)
        self._apply_light(canvas, face)
        hair.paint_front(canvas, person)

    def _apply_light(self, canvas: Canvas, face: Face) -> None:
        import cv2

        # the light stretches as the jaw drops
        high = self.person.head_height
        longer = face.outline[:, 1].max() / (2 * high) + 0.5
        stretch = np.array([[1, 0, 0], [0, longer, high * (longer - 1)], [0, 0, 1]])
        top, left, rows, columns = _LIT
        move = canvas.matrix @ stretch @ _LIGHT_TO_HEAD - [[0, 0, left], [0, 0, top]]
        light = cv2.warpAffine(self._light, move, (columns, rows), borderValue=(128, 128, 128))
        part = canvas.pixels[top : top + rows, left : left + columns]
        part[:] = cv2.multiply(part, light, scale=1 / 128)

    def _rolled(self, canvas: Canvas, face: Face, yaw: float) -> UInt8[np.ndarray, "h w 3"]:
        """Front and back of the head, rolled around the vertical axis by `yaw`."""
        person, base = self.person, canvas.pixels
        bald = person.hair_style == "bald"
        # what is sampled beyond an edge must look like the head, not like the wall
        ground = np.broadcast_to(
            np.array(person.skin if bald else person.hair, np.uint8), base.shape
        )
        sides = []
        for paint_side in (self._paint_head, self._paint_back):
            colored, mask = Canvas(ground.copy()), Canvas(np.zeros_like(base))
            colored.move(canvas.matrix)
            mask.move(canvas.matrix)
            paint_side(colored, face)
            mask.fill(face.outline, (255, 255, 255))
            if paint_side == self._paint_head:
                hair.paint_front(mask, person)
            else:
                hair.paint_back(mask, person, face)
            sides.append((colored.pixels, *_extent(mask.pixels)))
        rolled = Canvas(_roll(base, sides[0], sides[1], yaw))
        rolled.move(canvas.matrix)
        if not hair.covers_ears(person):
            features.paint_turned_ear(rolled, person, face, yaw)
        return rolled.pixels

    def _paint_back(self, canvas: Canvas, face: Face) -> None:
        hair.paint_back(canvas, self.person, face)
        self._apply_light(canvas, face)


Side = tuple[np.ndarray, np.ndarray, np.ndarray]  # pixels, centre and radius of each row


def _extent(mask: UInt8[np.ndarray, "h w 3"]) -> tuple[np.ndarray, np.ndarray]:
    """(centre, radius) of what was painted on black, for each row; radius 0 = nothing."""
    painted = mask.max(axis=2) > 8
    some = painted.any(axis=1)
    first = painted.argmax(axis=1)
    last = painted.shape[1] - painted[:, ::-1].argmax(axis=1)
    middle = np.median((first + last)[some] / 2) if some.any() else mask.shape[1] / 2
    return np.where(some, (first + last) / 2, middle), np.where(some, (last - first) / 2, 0.0)


def _roll(base: np.ndarray, front: Side, back: Side, yaw: float) -> np.ndarray:
    """Paste the head, turned by `yaw` radians, over the picture."""
    import cv2

    part = 0.5 - 0.5 * np.cos(yaw)  # 0 = front, 1 = back
    center = (1 - part) * front[1] + part * back[1]
    # hair that only the back has must be gone before the face comes
    share = np.where(front[2] > 0, part, np.clip((part - 0.5) / 0.4, 0, 1))
    radius = (1 - share) * front[2] + share * back[2]
    columns = np.arange(base.shape[1])[None, :] + 0.5
    where = (columns - center[:, None]) / np.maximum(radius, 1.0)[:, None]
    angle = np.arcsin(np.clip(where, -1, 1)) - yaw
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    on_front = np.abs(angle) <= np.pi / 2
    reach = 0.97 * np.sin(angle)
    rows = np.repeat(np.arange(base.shape[0], dtype=np.float32)[:, None], base.shape[1], axis=1)
    seen = [
        cv2.remap(
            pixels,
            (x[:, None] - 0.5 + sign * r[:, None] * reach).astype(np.float32),
            rows,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for (pixels, x, r), sign in ((front, 1), (back, -1))
    ]
    rolled = np.where(on_front[..., None], *seen)
    # antialiased edge: the share of the pixel that lies inside
    inside = np.clip((1 - np.abs(where)) * radius[:, None] + 0.5, 0, 1) * (radius > 2)[:, None]
    mixed = base + (rolled.astype(np.float32) - base) * inside[..., None]
    return np.rint(mixed).astype(np.uint8)


_LIT = (20, 36, 212, 184)  # top, left, rows, columns of the picture where a head can be
_LIGHT_SIZE = 192  # pixels
_LIGHT_TO_HEAD = np.array(
    [
        [1.0, 0, -_LIGHT_SIZE / 2],
        [0, 1.0, -_LIGHT_SIZE / 2],
        [0, 0, 1],
    ]
)


def _head_light(person: Person) -> UInt8[np.ndarray, "s s 3"]:
    """A soft light from the upper left over the head: 128 changes nothing."""
    import cv2

    v, u = np.mgrid[0:_LIGHT_SIZE, 0:_LIGHT_SIZE].astype(np.float32)
    u = (u - _LIGHT_SIZE / 2) / person.head_width
    v = (v - _LIGHT_SIZE / 2) / person.head_height
    radius = np.sqrt(u**2 + (0.95 * v) ** 2)
    edge = np.clip((radius - 0.55) / 0.5, 0, 1) ** 1.5
    gain = 1.05 - 0.20 * edge - 0.05 * u - 0.04 * v
    # nothing outside of the head, or its shadow would lie on the wall
    outline = anatomy.face(person, Look()).outline
    cells = np.round((outline + _LIGHT_SIZE / 2 - 0.5) * 16).astype(np.int32)
    inside = np.zeros(gain.shape, np.uint8)
    cv2.fillPoly(inside, [cells], (255,), cv2.LINE_AA, 4)
    inside = cv2.dilate(inside, np.ones((3, 3), np.uint8))  # the edge itself is lit too
    gain = 1 + (gain - 1) * (inside / np.float32(255))
    tint = np.stack([gain**0.8, gain, gain**1.1], axis=-1)
    return np.clip(tint * 128, 0, 255).astype(np.uint8)
