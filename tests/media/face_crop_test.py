"""The square around a face: where it stands, how it is turned, and that it matches training."""

import numpy as np
import pytest

from data_pipeline.annotate.crop import face_crop as crop_of_training
from ft_jax.media.face_crop import face_crop


def spot(x: float, y: float, side: int = 200) -> np.ndarray:
    """A soft red spot on a grey ramp."""
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    red = 200 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 200)
    return np.stack([red, 0.5 * columns, 0.5 * rows], -1).astype(np.uint8)


def brightest(picture: np.ndarray) -> tuple[float, float]:
    """Centre (x, y) of the red in it, in pixels."""
    red = picture[..., 0].astype(float)
    rows, columns = np.mgrid[: red.shape[0], : red.shape[1]]
    return float((columns * red).sum() / red.sum()), float((rows * red).sum() / red.sum())


def test_the_middle_of_the_box_is_the_middle_of_the_crop() -> None:
    crop = face_crop(spot(80, 120), (50.0, 80.0, 110.0, 160.0), 32)
    assert crop.shape == (32, 32, 3)
    assert brightest(crop) == pytest.approx((15.5, 15.5), abs=0.5)


def test_a_tilted_head_is_turned_level() -> None:
    tilt = 0.4
    # The spot stands to the right of the face, where the eyes' line points.
    x, y = 100 + 40 * np.cos(tilt), 100 + 40 * np.sin(tilt)
    crop = face_crop(spot(x, y), (50.0, 50.0, 150.0, 150.0), 44, tilt)
    assert brightest(crop) == pytest.approx((21.5 + 40 / 2.5, 21.5), abs=0.7)


def test_a_box_over_the_edge_repeats_it() -> None:
    crop = face_crop(np.full((50, 50, 3), 77, np.uint8), (-40.0, -40.0, 60.0, 60.0), 16)
    assert (crop == 77).all()


def test_it_is_the_crop_the_encoder_was_trained_on() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    box, tilt = np.array([40.0, 50.0, 130.0, 150.0]), 0.2
    middle = np.array([85.0, 90.0])
    across = 20 * np.array([np.cos(tilt), np.sin(tilt)])
    eyes = np.stack([middle - across, middle + across]) / 200
    wanted = crop_of_training(picture, box / 200, 48, eyes)
    got = face_crop(picture, (40.0, 50.0, 130.0, 150.0), 48, tilt)
    np.testing.assert_allclose(got, wanted, atol=2)
