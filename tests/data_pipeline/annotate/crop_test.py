import numpy as np
import pytest

from data_pipeline.annotate import crop
from ft_jax.media.face_crop import MARGIN

SIZE = 256


def picture(angle: float = 0.0, x: float = 128, y: float = 120, scale: float = 1.0) -> np.ndarray:
    """A smooth face of blobs, turned about its middle at (x, y)."""
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5 - x, np.arange(SIZE) + 0.5 - y)
    across = (np.cos(angle) * columns + np.sin(angle) * rows) / scale
    down = (-np.sin(angle) * columns + np.cos(angle) * rows) / scale
    blobs = [((-20, -10), 8), ((20, -10), 8), ((0, 25), 14)]
    layers = [
        np.exp(-((across - bx) ** 2 + (down - by) ** 2) / (2 * r * r)) for (bx, by), r in blobs
    ]
    return np.rint(20 + 200 * np.stack(layers, -1)).astype(np.uint8)


def eyes(angle: float = 0.0, x: float = 128, y: float = 120, scale: float = 1.0) -> np.ndarray:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = scale * np.array([[-20, -10], [20, -10]]) @ turn.T
    return (points + np.array([x, y])) / SIZE


def box(x: float = 128, y: float = 120, half: float = 50) -> np.ndarray:
    return np.array([x - half, y - half, x + half, y + half]) / SIZE


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_turning_moving_and_enlarging_the_face_leaves_the_crop() -> None:
    upright = crop.face_crop(picture(), box(), 48, eyes())
    assert upright.shape == (48, 48, 3) and upright.std() > 20
    for pose in ({"angle": 0.4}, {"angle": -0.9}, {"x": 96.5, "y": 150.25}, {"scale": 1.5}):
        place = {"x": pose.get("x", 128), "y": pose.get("y", 120)}
        turned = crop.face_crop(
            picture(**pose), box(**place, half=50 * pose.get("scale", 1)), 48, eyes(**pose)
        )
        assert difference(turned, upright) < 1.0, pose
    untouched = crop.face_crop(picture(angle=0.4), box(), 48)
    assert difference(untouched, upright) > 3


def test_face_stands_in_the_middle_of_the_crop() -> None:
    found = crop.face_crop(picture(), box(), 48).astype(float) - 20
    centre = [(found[..., 0].sum(axis) * (np.arange(48) + 0.5)).sum() for axis in (0, 1)]
    centre = np.array(centre) / found[..., 0].sum()
    step = MARGIN * 100 / 48
    np.testing.assert_allclose(centre, [24 - 20 / step, 24 - 10 / step], atol=0.15)


def test_box_beyond_the_picture_is_filled_from_its_edge() -> None:
    found = crop.face_crop(np.full((64, 64, 3), 90, np.uint8), np.array([-0.5, 0, 0.5, 1]), 16)
    assert (found == 90).all()


def test_reducing_does_not_alias() -> None:
    stripes = np.zeros((480, 480, 3), np.uint8)
    stripes[:, ::2] = 255
    found = crop.face_crop(stripes, np.array([0.1, 0.1, 0.9, 0.9]), 16)
    assert np.abs(found.astype(int) - 128).max() < 6


@pytest.mark.parametrize(("count", "wanted"), [(3, [4, 6, 9]), (8, [4, 5, 6, 7, 9]), (1, [4])])
def test_uncovered_frames_are_spread_evenly(count: int, wanted: list[int]) -> None:
    visible = np.array([0, 0, 0, 0.5, 1, 1, 1, 1, 0, 1.0])
    assert crop.uncovered(visible, count) == wanted
    assert crop.uncovered(visible * 0.5, count) == []
