"""Guidance: the published sum, and its special cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.diffusion import guidance
from ft_jax.diffusion.guidance import Config


def _three():
    return tuple(jax.random.normal(jax.random.key(0), (3, 2, 5)))


def test_the_sum_is_the_published_one():
    full, text, none = _three()
    expected = none + 5.0 * (text - none) + 4.5 * (full - text)
    np.testing.assert_allclose(guidance.combine(full, text, none, Config(5.0, 4.5)), expected)


def test_scales_of_one_are_the_plain_prediction():
    full, text, none = _three()
    np.testing.assert_allclose(
        guidance.combine(full, text, none, Config(1.0, 1.0)), full, atol=1e-6
    )


def test_text_guidance_one_needs_no_unconditional_prediction():
    full, text, none = _three()
    cfg = Config(1.0, 4.5)
    np.testing.assert_allclose(
        guidance.combine(full, text, None, cfg),
        guidance.combine(full, text, none, cfg),
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="unconditional"):
        guidance.combine(full, text, None, Config(5.0, 4.5))


@pytest.mark.parametrize(
    ("cfg", "branches"), [(Config(5.0, 4.5), 3), (Config(1.0, 4.5), 2), (Config(1.0, 1.0), 1)]
)
def test_a_stacked_batch_holds_only_the_branches_it_needs(cfg, branches):
    full, text, none = _three()
    stacked = jnp.concatenate([full, text, none][:branches])
    assert cfg.branches == branches
    np.testing.assert_allclose(
        guidance.combine_stacked(stacked, cfg),
        guidance.combine(full, text, none, cfg),
        atol=1e-5,
    )
