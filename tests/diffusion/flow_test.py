"""Flow matching: the path, the published noise levels, how training draws them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.diffusion import flow
from ft_jax.errors import UsageError


def _pair():
    return jax.random.normal(jax.random.key(0), (2, 4, 3, 5))


def test_the_velocity_is_the_slope_of_the_path():
    clean, noise = _pair()
    sigma = jnp.array([0.1, 0.5, 0.9, 0.3])
    slope = (
        flow.interpolate(clean, noise, sigma + 0.05) - flow.interpolate(clean, noise, sigma - 0.05)
    ) / 0.1
    np.testing.assert_allclose(slope, flow.velocity(clean, noise), atol=1e-5)


def test_the_path_runs_from_data_to_noise():
    clean, noise = _pair()
    np.testing.assert_array_equal(flow.interpolate(clean, noise, jnp.zeros(4)), clean)
    np.testing.assert_array_equal(flow.interpolate(clean, noise, jnp.ones(4)), noise)


def test_the_velocity_points_back_to_the_data():
    clean, noise = _pair()
    sigma = jnp.array([0.1, 0.5, 0.9, 1.0])
    noisy = flow.interpolate(clean, noise, sigma)
    found = flow.predict_clean(noisy, flow.velocity(clean, noise), sigma)
    np.testing.assert_allclose(found, clean, atol=1e-6)


def test_thirty_steps_have_the_published_levels():
    table = flow.sigma_table(30)
    assert table.shape == (31,) and table[-1] == 0
    expected = {0: 1000.0, 1: 993.1506, 2: 985.9154, 15: 833.3333, 25: 500.0, 29: 147.0588}
    for index, timestep in expected.items():
        assert 1000 * table[index] == pytest.approx(timestep, abs=2e-4)


def test_forty_steps_from_below_one_have_the_levels_of_wan():
    table = flow.sigma_table(40, start=0.999)
    assert [int(1000 * sigma) for sigma in table[[0, 1, 2, 3, -4, -3, -2]]] == [
        999, 994, 989, 983, 288, 208, 113,
    ]  # fmt: skip
    assert table[-2] == pytest.approx(0.1135330, abs=1e-7)


def test_training_draws_uniformly_from_the_shifted_grid():
    drawn = np.asarray(flow.sample_sigma(jax.random.key(0), 4000, flow.Config()))
    grid = flow.sigma_table(1000)[:-1]
    assert np.isin(drawn, grid).all()
    assert 1000 * grid[[0, -1]] == pytest.approx([1000.0, 4.98], abs=0.01)
    assert np.median(drawn) == pytest.approx(5 / 6, abs=0.02)


def test_logit_normal_levels_lie_inside_and_are_shifted():
    drawn = flow.sample_sigma(jax.random.key(0), 4000, flow.Config(sampling="logit_normal"))
    assert 0 < drawn.min() and drawn.max() < 1
    assert np.median(drawn) == pytest.approx(5 / 6, abs=0.02)


def test_the_bell_weight_has_mean_one_on_the_grid_and_the_published_peak():
    cfg = flow.Config(weighting="bell")
    weight = flow.loss_weight(jnp.asarray(flow.sigma_table(1000)[:-1]), cfg)
    assert weight.mean() == pytest.approx(1, abs=1e-4)
    assert weight.min() == pytest.approx(0, abs=1e-5)
    assert weight.max() == pytest.approx(2.08, abs=0.01)
    assert (flow.loss_weight(jnp.array([0.1, 0.9]), flow.Config()) == 1).all()


@pytest.mark.parametrize("field", ["sampling", "weighting"])
def test_an_unknown_name_is_an_error_that_names_the_setting(field):
    with pytest.raises(UsageError, match=f"flow.{field}: got 'x'"):
        flow.Config(**{field: "x"})
