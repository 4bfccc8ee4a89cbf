"""What surrounds a person and changes from clip to clip: clothes, place, object, cover, caption.

In: random numbers. Out: a `Scene`, painted by functions here. The one idea: the caption names all
of this and nothing of the face, so text can tell the place but never who is in it.

Tests: tests/data_pipeline/world/scene_test.py.
"""

import dataclasses
import re

import numpy as np
from jaxtyping import UInt8

from data_pipeline.world import paint
from data_pipeline.world.paint import Canvas
from data_pipeline.world.people import Color

MARGIN = 16  # pixels the backdrop reaches beyond the picture on each side
STARTS = ("open", "turned", "covered")
COLORS: dict[str, Color] = {
    "red": (206, 68, 62), "orange": (232, 138, 62), "yellow": (240, 196, 84),
    "green": (84, 150, 96), "teal": (58, 144, 148), "blue": (72, 120, 196),
    "navy": (48, 62, 108), "purple": (128, 94, 172), "pink": (232, 142, 164),
    "brown": (138, 98, 72), "grey": (140, 146, 156), "white": (236, 234, 230),
    "black": (52, 50, 58),
}  # fmt: skip
CLOTHES = ("t-shirt", "hoodie", "shirt", "sweater", "jacket", "striped top", "dungarees")
WALLS: dict[str, Color] = {
    "mint": (190, 222, 206), "sky blue": (182, 212, 234), "peach": (248, 214, 190),
    "lilac": (214, 202, 232), "cream": (244, 234, 212), "sand": (226, 208, 178),
    "rose": (240, 202, 204), "grey": (204, 210, 216), "teal": (120, 178, 180),
    "terracotta": (214, 146, 116), "olive": (176, 182, 132), "night blue": (82, 98, 138),
}  # fmt: skip
PLACES = ("plain wall", "window", "bookshelf", "striped wallpaper", "park", "tiled wall")
OBJECTS = ("lamp", "plant", "picture", "balloon", "mobile", "flag")


@dataclasses.dataclass(frozen=True)
class Scene:
    """One clip's surroundings."""

    start: str  # open, turned, covered
    clothes: str
    clothes_color: str
    wall: str
    place: str
    object: str
    object_color: str
    object_side: int  # -1 left
    cover: str
    cover_color: str
    caption: str
    grain: int  # seed of small details


def draw_scene(draw: np.random.Generator, start: str | None = None) -> Scene:
    """Choose surroundings; `start` fixes how the clip begins."""
    pick = lambda options: str(draw.choice(list(options)))  # noqa: E731
    if start is None:
        start = str(draw.choice(STARTS, p=[0.5, 0.25, 0.25]))
    values = {
        "start": start,
        "clothes": pick(CLOTHES),
        "clothes_color": pick(COLORS),
        "wall": pick(WALLS),
        "place": pick(PLACES),
        "object": pick(OBJECTS),
        "object_color": pick([name for name in COLORS if name not in ("grey", "black", "brown")]),
        "cover": pick(("board", "sheet of paper", "book", "fan")),
        "cover_color": pick([name for name in COLORS if name != "black"]),
    }
    if values["cover"] == "sheet of paper":
        values["cover_color"] = "white"
    style = int(draw.integers(3))
    return Scene(
        object_side=int(draw.choice([-1, 1])),
        grain=int(draw.integers(1 << 30)),
        caption=_caption(values, style),
        **values,
    )


def _caption(v: dict[str, str], style: int) -> str:
    place = "in a park" if v["place"] == "park" else f"by a {v['wall']} {v['place']}"
    if v["place"] in ("bookshelf", "window"):
        place = f"by a {v['place']} in a {v['wall']} room"
    wears = f"{'' if v['clothes'] == 'dungarees' else 'a '}{v['clothes_color']} {v['clothes']}"
    thing = f"a {v['object_color']} {v['object']}"
    cover = f"a {v['cover_color']} {v['cover']}".replace("white sheet", "sheet")
    gesture = {
        "open": ("talks to the camera", "is speaking", "speaks to us"),
        "turned": (
            "turns around to the camera and talks",
            "looks away, then turns to us",
            "turns from the wall while speaking",
        ),
        "covered": (
            f"lowers {cover} and talks",
            f"speaks from behind {cover}, then lowers it",
            f"hides behind {cover} and then shows up",
        ),
    }[v["start"]][style]
    caption = (
        f"A person in {wears} {gesture}, {place}, next to {thing}.",
        f"{place[0].upper()}{place[1:]}, with {thing}, a person in {wears} {gesture}.",
        f"Portrait of a person wearing {wears} who {gesture}; {place}, {thing} at the side.",
    )[style]
    return re.sub(r"\ba (?=[aeiou])", "an ", caption)


def backdrop(scene: Scene, size: int = 256) -> UInt8[np.ndarray, "h w 3"]:
    """Paint the place once per clip, a margin larger than the picture."""
    import cv2

    wide = size + 2 * MARGIN
    draw = np.random.default_rng(scene.grain)
    wall = np.array(WALLS[scene.wall], np.float32)
    y, x = np.mgrid[0:wide, 0:wide].astype(np.float32) / wide
    light = 1.06 - 0.20 * y - 0.10 * np.abs(x - 0.35)
    canvas = Canvas(np.clip(wall * light[..., None], 0, 255).astype(np.uint8))
    painter = {
        "window": _window, "bookshelf": _bookshelf, "striped wallpaper": _stripes,
        "park": _park, "tiled wall": _tiles,
    }.get(scene.place)  # fmt: skip
    if painter:
        painter(canvas, scene, draw, wide)
    # out of focus, as behind a portrait; fine detail would only burden the codec
    blur = {"bookshelf": 13, "park": 9, "window": 7}.get(scene.place, 5)
    return cv2.GaussianBlur(canvas.pixels, (blur, blur), 0)


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)


def _window(canvas: Canvas, scene: Scene, draw: np.random.Generator, wide: int) -> None:
    x0 = 12 if scene.object_side > 0 else wide - 152
    canvas.fill(_box(x0, 14, x0 + 140, 200), (240, 238, 232))
    canvas.fill(_box(x0 + 7, 21, x0 + 133, 193), (168, 210, 240))
    for _ in range(4):
        cx, cy = x0 + draw.uniform(15, 125), draw.uniform(35, 110)
        canvas.soft(paint.ellipse(cx, cy, 24, 9), (255, 255, 255), 0.8, 6)
    canvas.fill(paint.ellipse(x0 + 60, 200, 90, 50)[:, :] * [1, 1], (134, 186, 130))
    canvas.fill(_box(x0 - 10, 193, x0 + 150, 208), (240, 238, 232))
    canvas.fill(_box(x0 + 67, 21, x0 + 73, 193), (240, 238, 232))
    canvas.fill(_box(x0 - 10, 208, x0 + 150, 260), paint.shade(WALLS[scene.wall], 0.93))


def _bookshelf(canvas: Canvas, scene: Scene, draw: np.random.Generator, wide: int) -> None:
    wood = (150, 110, 78)
    tones = [paint.mix(color, wood, 0.45) for color in COLORS.values()]
    canvas.fill(_box(0, 0, wide, wide), paint.shade(wood, 0.62))
    for row in range(4):
        y = 6 + row * 72
        x = draw.uniform(-6, 4)
        while x < wide:
            thick, high = draw.uniform(11, 22), draw.uniform(42, 60)
            tone = tones[int(draw.integers(len(tones)))]
            canvas.fill(_box(x, y + 62 - high, x + thick, y + 62), paint.shade(tone, 0.85))
            x += thick + 0.8 + (draw.uniform(10, 30) if draw.random() < 0.1 else 0)
        canvas.fill(_box(0, y + 62, wide, y + 70), wood)


def _stripes(canvas: Canvas, scene: Scene, draw: np.random.Generator, wide: int) -> None:
    step = draw.uniform(22, 40)
    tone = paint.shade(WALLS[scene.wall], 0.90)
    for x in np.arange(draw.uniform(0, step), wide, step):
        canvas.fill(_box(x, 0, x + step * 0.45, wide), tone)


def _tiles(canvas: Canvas, scene: Scene, draw: np.random.Generator, wide: int) -> None:
    tile = 34
    for row in range(-1, wide // tile + 1):
        for column in range(-1, wide // tile + 1):
            tone = paint.shade(WALLS[scene.wall], float(draw.uniform(0.86, 1.06)))
            x, y = column * tile + (row % 2) * tile / 2, row * tile
            canvas.fill(_box(x + 1, y + 1, x + tile - 1, y + tile - 1), tone)


def _park(canvas: Canvas, scene: Scene, draw: np.random.Generator, wide: int) -> None:
    y = np.linspace(0, 1, wide)[:, None, None]
    sky = np.array([172, 214, 242]) * (1 - y) + np.array([244, 236, 208]) * y
    canvas.pixels[:] = np.broadcast_to(sky, canvas.pixels.shape).astype(np.uint8)
    for _ in range(9):
        cx, cy = draw.uniform(0, wide), draw.uniform(100, 165)
        tone = paint.shade((104, 160, 96), float(draw.uniform(0.75, 1.2)))
        canvas.soft(paint.ellipse(cx, cy, draw.uniform(26, 52), draw.uniform(28, 60)), tone, 0.9, 6)
    canvas.soft(_box(-20, 178, wide + 20, wide + 20), (146, 190, 112), 1.0, 8)


def paint_object(canvas: Canvas, scene: Scene, swing: float, shift: float) -> None:
    """The context object, swinging by `swing` radians, moved by `shift` pixels."""
    color = COLORS[scene.object_color]
    x = 128 + scene.object_side * 98 + shift
    draw = {
        "lamp": _lamp, "plant": _plant, "picture": _picture,
        "balloon": _balloon, "mobile": _mobile, "flag": _flag,
    }[scene.object]  # fmt: skip
    draw(canvas, x, swing, color)
    canvas.move(np.eye(2, 3))


def _lamp(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, -12, -1.6 * swing)
    canvas.stroke(np.array([[0, 0], [0, 58.0]]), (70, 66, 70), 2)
    canvas.soft(paint.ellipse(0, 96, 40, 30), (255, 240, 190), 0.5, 16)
    canvas.disc(0, 84, 9, (255, 244, 206))
    shade = np.array([[-9, 54], [9, 54], [27, 84], [-27, 84]], float)
    canvas.fill(shade, color)
    canvas.fill(shade * [0.45, 1] + [-6, 0], paint.shade(color, 1.2))


def _plant(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, 222)
    for k, angle in enumerate(np.linspace(-1.0, 1.0, 7)):
        bend = angle * 0.8 + 2.2 * swing * (1 + 0.3 * abs(angle))
        direction = np.array([np.sin(bend), -np.cos(bend)])
        side = np.array([direction[1], -direction[0]]) * (9 - 2 * abs(angle))
        length = 92 - 26 * abs(angle)
        tip = direction * length
        leaf = np.stack([np.zeros(2), tip * 0.45 + side, tip, tip * 0.45 - side])
        tone = paint.shade((82, 148, 92), 0.86 + 0.12 * (k % 3))
        canvas.fill(paint.smooth(leaf, 4), tone)
    canvas.fill(np.array([[-24, -4], [24, -4], [18, 50], [-18, 50]], float), color)
    canvas.fill(
        np.array([[-27, -10], [27, -10], [27, 2], [-27, 2]], float), paint.shade(color, 0.85)
    )


def _picture(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, 34, 1.4 * swing)
    canvas.stroke(np.array([[-18, 16], [0, 0], [18, 16.0]]), (90, 84, 80), 1)
    canvas.fill(_box(-30, 16, 30, 88), (110, 80, 58))
    canvas.fill(_box(-25, 21, 25, 83), (246, 240, 226))
    canvas.fill(np.array([[-25, 83], [-8, 48], [4, 66], [12, 54], [25, 83]], float), color)
    canvas.disc(11, 36, 7, (244, 186, 84))


def _balloon(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, 250, 1.1 * swing)
    string = np.array([[0, 0], [3, -60], [-2, -110], [0, -150]], float)
    canvas.stroke(paint.smooth(string, 5, closed=False), (120, 116, 116), 1)
    canvas.fill(paint.ellipse(0, -184, 27, 33, 28), color)
    canvas.fill(np.array([[-5, -149], [5, -149], [0, -156]], float), paint.shade(color, 0.8))
    canvas.soft(paint.ellipse(-9, -196, 6, 9), (255, 255, 255), 0.55, 5)


def _mobile(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, -6, -1.0 * swing)
    canvas.stroke(np.array([[0, 0], [0, 34.0]]), (90, 84, 84), 1)
    canvas.stroke(np.array([[-26, 34], [26, 34.0]]), (120, 92, 70), 2)
    for dx, low, tone in (
        (-25, 70, color),
        (0, 96, (246, 214, 110)),
        (25, 62, paint.shade(color, 1.3)),
    ):
        canvas.stroke(np.array([[dx, 34], [dx, low - 6.0]]), (90, 84, 84), 1)
        canvas.disc(dx, low, 10, tone)


def _flag(canvas: Canvas, x: float, swing: float, color: Color) -> None:
    canvas.place(x, 60)
    canvas.stroke(np.array([[-26, -40], [-26, 200.0]]), (150, 116, 84), 3)
    along = np.linspace(0, 1, 9)
    wave = 26 * swing * np.sin(4.2 * along + 1) * along * 3 + 2 * np.sin(5 * along)
    top = np.stack([-25 + 56 * along, -38 + wave], axis=1)
    low = np.stack([-25 + 56 * along, 4 + wave], axis=1)
    canvas.fill(np.concatenate([top, low[::-1]]), color)
    middle = np.concatenate([(top * 2 + low) / 3, ((top + low * 2) / 3)[::-1]])
    canvas.fill(middle, paint.shade(color, 1.35))


def paint_cover(canvas: Canvas, scene: Scene, skin: Color, amount: float) -> None:
    """The held thing in front of the face: 0 = covers it ... 1 = out of the picture."""
    if amount >= 1:
        return
    color = COLORS[scene.cover_color]
    canvas.place(128, 122 + 250 * amount, 0.05 * np.sin(3 * amount) - 0.02)
    plate = _box(-92, -108, 92, 104)
    canvas.fill(paint.shift(plate, 3, 5), paint.shade(color, 0.55))
    canvas.fill(plate, color)
    light = paint.shade(color, 1.35)
    if scene.cover == "board":
        canvas.fill(_box(-82, -98, 82, 94), light)
        canvas.fill(_heart(), color)
    elif scene.cover == "sheet of paper":
        for k, y in enumerate(range(-84, 84, 18)):
            canvas.fill(_box(-74, y, 74 - 26 * (k % 3 == 2), y + 5), (176, 178, 186))
    elif scene.cover == "book":
        canvas.fill(_box(-92, -108, -70, 104), paint.shade(color, 0.75))
        canvas.fill(_box(-52, -80, 74, -40), light)
        canvas.fill(_box(-36, -66, 58, -56), paint.shade(color, 0.8))
        canvas.disc(12, 36, 34, light)
    else:
        for k in range(-4, 5):
            wedge = np.array([[0, 104], [k * 20 - 8, -100], [k * 20 + 2, -100]], float)
            canvas.fill(wedge, light)
    for side in (-1, 1):
        for y in (40, 54, 68):
            canvas.fill(paint.ellipse(side * 88, y, 13, 8.5, 14), paint.shade(skin, 0.94))


def _heart() -> np.ndarray:
    right = np.array([[0, -16], [18, -38], [44, -30], [46, -4], [24, 24], [0, 46]], float)
    return paint.smooth(paint.mirror(right), 5)
