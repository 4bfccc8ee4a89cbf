import dataclasses

import numpy as np
import pytest

from data_pipeline.world import anatomy, source
from ft_jax.eval.motion import (
    at_intensity,
    body_tracks,
    expression_tracks,
    intensity,
    jerk,
    rank_correlation,
    ranks,
)

TIME = np.arange(200) / 100


def test_intensity_is_the_mean_variance_and_blind_to_time_direction():
    tracks = np.random.default_rng(0).normal(size=(500, 3)) * [1.0, 2.0, 3.0]
    assert intensity(tracks) == pytest.approx((1 + 4 + 9) / 3, rel=0.1)
    assert intensity(tracks[::-1]) == pytest.approx(intensity(tracks))
    assert intensity(tracks + 5) == pytest.approx(intensity(tracks))


def test_still_or_unmeasured_clips_do_not_move():
    assert intensity(np.ones((33, 2))) == 0 and jerk(np.ones((33, 2)), 23.0) == 0
    hidden = np.random.default_rng(0).normal(size=(33, 2))
    hidden[:20, 1] = np.nan
    assert intensity(hidden) == 0


def test_jerk_of_a_sine_is_its_third_derivative():
    omega = 2 * np.pi
    tracks = np.stack([np.sin(omega * TIME), 2 * np.sin(omega * TIME)], -1)
    assert jerk(tracks, fps=100.0) == pytest.approx(1.5 * omega**3 / np.sqrt(2), rel=0.02)


def test_jerk_of_steady_and_accelerated_motion_is_nothing():
    tracks = np.stack([TIME, TIME**2], -1)
    assert jerk(tracks, fps=100.0) == pytest.approx(0, abs=1e-5)


def test_jerk_skips_gaps_instead_of_bridging_them():
    tracks = np.stack([TIME, TIME], -1)
    tracks[50:60] = np.nan
    tracks[60:] += 100
    assert jerk(tracks, fps=100.0) == pytest.approx(0, abs=1e-4)


def test_rank_correlation_sees_order_only():
    asked = np.array([0, 0.25, 0.5, 0.75, 1.0])
    assert rank_correlation(asked, np.exp(9 * asked)) == pytest.approx(1)
    assert rank_correlation(asked, -asked) == pytest.approx(-1)
    assert rank_correlation(asked, np.ones(5)) == 0
    both = rank_correlation(np.stack([asked, asked]), np.stack([asked, asked[::-1]]))
    np.testing.assert_allclose(both, [1, -1])


def test_equal_values_share_the_mean_of_their_ranks():
    values = np.array([[3.0, 1.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    np.testing.assert_array_equal(ranks(values), [[3.5, 1, 3.5, 2], [2.5] * 4])


def test_true_clips_of_the_same_intensity_are_the_nearest_ones():
    known = np.array([0.01, 0.02, 1.0, 2.0])
    values = np.array([1.0, 3.0, 100.0, 300.0])
    found = at_intensity(np.array([0.015, 1.5]), known, values, neighbours=2)
    np.testing.assert_allclose(found, [2, 200])


def measured(expression: float, body: float, number: int) -> dict[str, np.ndarray]:
    """What a perfect instrument says about a drawn clip with these intensities."""
    choice = source.choose("heldout", 3, number)
    signals = source.move(dataclasses.replace(choice, omega_l=expression, omega_b=body))
    return {
        "brow": signals.brow * anatomy.BROW_PIXELS / 150,
        "cheek": signals.cheek * anatomy.CHEEK_PIXELS / 150,
        "lid": signals.lid,
        "head_x": signals.head_x / source.SIZE,
        "head_y": signals.head_y / source.SIZE,
        "shoulder": signals.shoulder / source.SIZE,
    }


@pytest.mark.parametrize("name", ["expression", "body"])
def test_each_intensity_of_the_world_is_measured_and_the_other_is_not(name):
    tracks = {"expression": expression_tracks, "body": body_tracks}[name]
    asked = np.tile([0.0, 0.25, 0.5, 0.75, 1.0], 8)
    numbers = np.repeat(np.arange(8), 5)

    def found(varied: str) -> np.ndarray:
        pairs = [(a, 0.5) if varied == "expression" else (0.5, a) for a in asked]
        clips = [measured(*pair, int(n)) for pair, n in zip(pairs, numbers, strict=True)]
        return np.array([intensity(tracks(clip)) for clip in clips])

    other = "body" if name == "expression" else "expression"
    assert rank_correlation(asked, found(name)) > 0.95
    assert abs(rank_correlation(asked, found(other))) < 0.2
