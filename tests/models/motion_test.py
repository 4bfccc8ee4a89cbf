"""Motion intensities: no effect at the start, then each its own; two places to be added to."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ft_jax.models import motion
from tests.models import small

NETWORK = motion.MotionNetwork(small.CONFIG.motion, small.DIT.width)


def _embed(expression, body, params=None):
    params = small.params()["motion"] if params is None else params
    return NETWORK.apply({"params": params}, jnp.array(expression), jnp.array(body))


def test_a_fresh_network_adds_nothing():
    fresh = small.fresh()["motion"]
    assert not np.any(_embed([0.1, 0.9], [0.3, 0.5], fresh))


def test_each_intensity_matters_and_they_are_not_interchangeable():
    out = np.asarray(_embed([0.1, 0.9, 0.1, 0.9], [0.1, 0.1, 0.9, 0.9]))
    differences = np.abs(out[:, None] - out[None]).max(-1) + np.eye(4)
    assert differences.min() > 1e-3


def test_neighbouring_intensities_have_similar_embeddings():
    steps = jnp.linspace(0, 1, 101)
    out = np.asarray(_embed(steps, steps))
    change = np.abs(np.diff(out, axis=0)).max()
    assert change < 0.25 * np.abs(out - out.mean(0)).max()


def test_the_embedding_moves_the_whole_network():
    latents, sigma, conditions = small.inputs()
    still = small.apply(small.params(), small.CONFIG, latents, sigma, conditions)
    moved = conditions.replace(body=conditions.body + 0.2)
    changed = small.apply(small.params(), small.CONFIG, latents, sigma, moved)
    assert (np.abs(still - changed).max((2, 3, 4)) > 1e-5).all()


def test_added_to_the_modulation_it_is_a_shift_of_the_projection():
    late = dataclasses.replace(
        small.CONFIG, motion=dataclasses.replace(small.CONFIG.motion, adds_to="modulation")
    )
    latents, sigma, conditions = small.inputs()
    params = small.params(late)
    shift = params["motion"]["output"]["bias"]
    kernel = jnp.zeros_like(params["motion"]["output"]["kernel"])
    constant = {**params["motion"], "output": {"kernel": kernel, "bias": shift}}
    found = small.apply({**params, "motion": constant}, late, latents, sigma, conditions)
    projection = params["dit"]["time_projection"]
    moved = {**projection, "bias": projection["bias"] + shift}
    base = dataclasses.replace(small.CONFIG, motion=None)
    expected = {**params, "dit": {**params["dit"], "time_projection": moved}}
    del expected["motion"]
    expected = small.apply(expected, base, latents, sigma, conditions)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    told = small.apply(params, late, latents, sigma, conditions)
    assert np.abs(told - found).max() > 1e-4
