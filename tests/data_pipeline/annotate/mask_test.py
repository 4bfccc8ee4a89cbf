import numpy as np
import pytest

from data_pipeline.annotate import mask


def ellipse(x: float, y: float, a: float, b: float, corners: int = 400) -> np.ndarray:
    angle = np.arange(corners) / corners * 2 * np.pi
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], -1)[None]


def test_area_of_an_ellipse_is_exact_to_the_sampling() -> None:
    shares = mask.region(ellipse(0.47, 0.61, 0.2, 0.1), 64, 80)
    assert shares.shape == (1, 64, 80)
    assert shares.sum() == pytest.approx(np.pi * (0.2 * 80) * (0.1 * 64), rel=2e-3)
    rows, columns = np.indices(shares.shape[1:]) + 0.5
    centre = [(shares[0] * axis).sum() / shares.sum() for axis in (columns, rows)]
    np.testing.assert_allclose(centre, [0.47 * 80, 0.61 * 64], atol=0.02)


def test_closed_lips_thinner_than_a_pixel_keep_their_share() -> None:
    shares = mask.region(ellipse(0.5, 0.5, 0.1, 0.4 / 64), 64, 64)
    assert shares.sum() == pytest.approx(np.pi * 6.4 * 0.4, rel=0.05)


def test_dilation_adds_a_rim_of_the_radius() -> None:
    """Steiner: a convex polygon grown by r has area A + r P + pi r^2."""
    left, top, right, bottom = 0.2, 0.3, 0.7, 0.6
    corners = np.array([[[left, top], [right, top], [right, bottom], [left, bottom]]])
    width, height = 0.5 * 100, 0.3 * 100
    radius = 0.1 * height
    grown = mask.region(corners, 100, 100, dilation=0.1).sum()
    wanted = width * height + radius * 2 * (width + height) + np.pi * radius**2
    assert grown == pytest.approx(wanted, rel=2e-3)
    assert mask.region(corners, 100, 100).sum() == pytest.approx(width * height, rel=1e-6)


def test_polygon_beyond_the_border_is_cut_there() -> None:
    corners = np.array([[[-0.5, 0.25], [0.5, 0.25], [0.5, 0.5], [-0.5, 0.5]]])
    shares = mask.region(corners, 16, 16)
    assert shares.sum() == 8 * 4 and shares[0, 4:8, :8].all()
    assert not mask.region(corners + 2, 16, 16).any()


def test_frames_without_a_polygon_are_empty() -> None:
    polygon = np.repeat(ellipse(0.5, 0.5, 0.3, 0.2), 2, 0)
    polygon[1, 7] = np.nan
    shares = mask.region(polygon, 32, 32)
    assert shares[0].any() and not shares[1].any()


def test_latent_frames_group_the_first_alone_then_fours() -> None:
    shares = np.zeros((9, 16, 24), np.float32)
    shares[0] = 1
    shares[3, :8, 8:16] = 1
    shares[8, 8:, 16:20] = 1
    found = mask.latent_mask(shares)
    wanted = np.zeros((3, 2, 3))
    wanted[0] = 255
    wanted[1, 0, 1] = 255 / 4
    wanted[2, 1, 2] = 255 / 4 / 2
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(wanted))


def test_trilinear_samples_cells_at_their_centres_evenly_in_time() -> None:
    """On a ramp, interpolation reads the ramp itself at t = (i + 1/2) f / t - 1/2."""
    ramps = np.meshgrid(np.arange(9.0), np.arange(16.0), np.arange(24.0), indexing="ij")
    places = np.meshgrid([1, 4, 7], [3.5, 11.5], [3.5, 11.5, 19.5], indexing="ij")
    for ramp, place in zip(ramps, places, strict=True):
        found = mask.latent_mask((ramp / 255).astype(np.float32), "trilinear")
        assert found.shape == (3, 2, 3)
        assert np.abs(found - place).max() <= 0.51  # rounded to whole numbers


def test_lip_mask_holds_the_dilated_area_and_nothing_else() -> None:
    polygon = np.repeat(ellipse(0.5, 0.7, 0.15, 0.08), 5, 0)
    found = mask.latent_mask(mask.region(polygon, 64, 64, mask.DILATION))
    assert found.shape == (2, 8, 8)
    pixels = found[0].astype(float).sum() / 255 * 64
    outer = np.pi * 9.6 * 5.12
    rim = 0.1 * 2 * 5.12
    around = np.pi * (3 * (9.6 + 5.12) - np.sqrt((3 * 9.6 + 5.12) * (9.6 + 3 * 5.12)))
    assert pixels == pytest.approx(outer + rim * around + np.pi * rim**2, rel=0.01)
    assert not found[:, :4].any()


def test_face_mask_is_the_hull_of_what_is_known() -> None:
    rng = np.random.default_rng(0)
    inner = rng.uniform(0.35, 0.65, (20, 2))
    square = np.array([[0.25, 0.25], [0.75, 0.75], [0.25, 0.75], [0.75, 0.25]])
    points = np.repeat(np.concatenate([inner, square, [[np.nan, np.nan]]])[None], 5, 0)
    points[1:] = np.nan
    found = mask.latent_mask(mask.hulls(points, 64, 64))
    assert (found[0, 2:6, 2:6] == 255).all() and found[0].sum() == 16 * 255
    assert not found[1].any()
    assert len(mask.hull(points[0, :-1])) == 4


def test_below_keeps_what_lies_lower_than_a_height_of_each_frame() -> None:
    points = np.zeros((2, 3, 2), np.float32)
    points[..., 1] = [0.2, 0.5, np.nan]
    kept = np.isfinite(mask.below(points, np.array([0.1, 0.3]))).all(-1)
    np.testing.assert_array_equal(kept, [[True, True, False], [False, True, False]])
