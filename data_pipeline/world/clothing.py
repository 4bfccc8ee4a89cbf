"""The body below the head: neck, shoulders and clothes.

In: a canvas placed on the body (origin = the head's centre at rest). Out: painted pixels.
Tests: tests/data_pipeline/world/source_test.py.
"""

import numpy as np

from data_pipeline.world import paint
from data_pipeline.world.paint import Canvas
from data_pipeline.world.people import Color, Person
from data_pipeline.world.scene import COLORS, Scene

SHOULDERS = np.array([[92.0, 122.0], [-92.0, 122.0]])  # left, right of the person
_RIGHT = np.array(
    [[20, 88], [34, 98], [62, 106], [88, 116], [106, 134], [116, 160], [120, 210], [0, 210]], float
)


def paint_body(canvas: Canvas, person: Person, scene: Scene, lift: float, head: float) -> None:
    """Neck and clothes; `lift` raises the shoulders, `head` is the head's offset in pixels."""
    neck = 0.40 * person.head_width + 3
    # the neck follows the head at its top
    column = np.array(
        [
            [-neck + head, 40],
            [neck + head, 40],
            [neck + 3, 92],
            [30, 128],
            [-30, 128],
            [-neck - 3, 92],
        ]
    )
    canvas.fill(paint.smooth(column, 3), paint.shade(person.skin, 0.90))
    shadow = np.array(
        [
            [-neck + head, 40],
            [neck + head, 40],
            [neck + 1.5, 80],
            [0.5 * neck, 93],
            [0.3 * head, 96],
        ]
    )
    left = np.array([[-0.5 * neck, 93], [-neck - 1.5, 80]])
    canvas.fill(np.concatenate([shadow, left]), paint.shade(person.skin, 0.72))
    color = COLORS[scene.clothes_color]
    shape = _RIGHT.copy()
    shape[:, 1] -= lift * np.clip((shape[:, 0] - 15) / 60, 0, 1) * (shape[:, 1] < 200)
    ring = paint.mirror(shape)
    canvas.fill(paint.smooth(ring[:-1], 4), color)
    _details(canvas, person, scene, color, lift)
    for side in (-1, 1):  # sleeves lie in shadow
        fold = np.array([[80, 146], [87, 170], [88, 210], [96, 210], [92, 168]]) * [side, 1]
        canvas.fill(fold - [0, lift], paint.shade(color, 0.84))


def _details(canvas: Canvas, person: Person, scene: Scene, color: Color, lift: float) -> None:
    dark, light = paint.shade(color, 0.78), paint.shade(color, 1.25)
    skin = paint.shade(person.skin, 0.92)
    kind = scene.clothes
    if kind in ("t-shirt", "striped top", "dungarees"):
        canvas.fill(paint.ellipse(0, 90, 33, 22, 28), dark)
        canvas.fill(paint.ellipse(0, 88, 29, 19, 28), skin)
    if kind == "striped top":
        white = (238, 236, 230) if scene.clothes_color != "white" else (70, 90, 140)
        for y, half in ((122, 86), (140, 104)):
            x = np.linspace(-1, 1, 9)
            top = np.stack([x * half, y + 6 * (1 - x**2) - lift * x**2], axis=1)
            canvas.fill(np.concatenate([top, top[::-1] * [1.05, 1] + [0, 8]]), white)
    elif kind == "dungarees":
        white = (238, 236, 230) if scene.clothes_color != "white" else (120, 130, 150)
        for side in (-1, 1):
            canvas.fill(np.array([[40, 101], [56, 104], [50, 150], [36, 150]]) * [side, 1], white)
        canvas.fill(np.array([[-52, 140], [52, 140], [56, 220], [-56, 220]], float), white)
        for side in (-1, 1):
            canvas.disc(side * 43, 144, 4, (240, 200, 90))
    elif kind == "hoodie":
        hood = np.array([[0, 118], [30, 108], [46, 92], [38, 82], [26, 96], [0, 106]], float)
        canvas.fill(paint.smooth(paint.mirror(hood), 4), dark)
        for side in (-1, 1):
            canvas.stroke(np.array([[side * 12, 112], [side * 13, 142.0]]), light, 2)
    elif kind == "sweater":
        canvas.fill(np.array([[-31, 78], [31, 78], [36, 104], [-36, 104]], float), dark)
        canvas.fill(np.array([[-31, 78], [31, 78], [32, 86], [-32, 86]], float), color)
    elif kind == "shirt":
        canvas.fill(np.array([[-18, 84], [18, 84], [0, 116]], float), skin)
        for side in (-1, 1):
            collar = np.array([[16, 80], [36, 92], [30, 116], [3, 114]]) * [side, 1]
            canvas.fill(collar, light)
        canvas.stroke(np.array([[0, 116], [0, 150.0]]), dark, 1)
        canvas.disc(0, 128, 2.2, light)
    elif kind == "jacket":
        inner = (236, 234, 228) if scene.clothes_color != "white" else (110, 140, 180)
        canvas.fill(np.array([[-30, 84], [30, 84], [0, 170]], float), inner)
        canvas.fill(np.array([[-20, 84], [20, 84], [0, 104]], float), skin)
        for side in (-1, 1):
            lapel = np.array([[28, 84], [42, 98], [48, 118], [38, 124], [0, 172]]) * [side, 1]
            canvas.fill(lapel, dark)
