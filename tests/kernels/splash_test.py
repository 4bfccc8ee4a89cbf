"""The kernels for TPUs, as they are shipped, run in interpret mode against the plain reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.kernels import reference, splash

# samples, queries, keys, heads, head width, is a key masked?
CASES = {
    "text and image tokens": (1, 300, 769, 2, 32, False),
    "masked keys, and a sample without any": (2, 260, 300, 1, 16, True),
    "windows of latent frames": (3, 257, 17, 2, 40, True),
    "whole tiles": (1, 1152, 128, 1, 16, False),
}


def _inputs(samples, queries, keys, heads, width, is_masked):
    draw = np.random.default_rng(0)
    shapes = [(samples, length, heads, width) for length in (queries, keys, keys, queries)]
    q, k, v, grad = (jnp.asarray(draw.standard_normal(shape), jnp.float32) for shape in shapes)
    mask = jnp.asarray(draw.random((samples, 1, 1, keys)) < 0.6)
    return q, k, v, mask.at[0].set(False) if is_masked else None, grad


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_in_values_and_gradients(case: str):
    def run(kernel, options, q, k, v, mask, grad):
        plain = kernel.attention(q, k, v, mask, 0.3, **options)
        out, total = kernel.forward(q, k, v, mask, 0.3, **options)
        grads = kernel.backward(q, k, v, mask, 0.3, (out, total), grad, **options)
        return plain, out, grads, total if mask is None else total[1:]

    given = _inputs(*CASES[case])
    expected = jax.jit(functools.partial(run, reference, {}))(*given)
    found = jax.jit(functools.partial(run, splash, {"interpret": True}))(*given)
    for value, right in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(value, right, rtol=0, atol=3e-6 * float(abs(right).max()))


@pytest.mark.parametrize("length", [17, 257, 300, 769, 1024, 1560, 3600, 21504, 32760, 75600])
def test_tiles_cover_a_length_with_little_padding(length: int):
    rows = splash.tile(length)
    covered = -(-length // rows) * rows
    assert rows % splash.LANES == 0 and rows <= splash.LONGEST
    assert covered - length < max(splash.LANES, length / 6)
    assert covered // rows <= -(-length // splash.LONGEST) + 1
    step = splash.block_sizes(length, length).block_kv_compute
    assert rows % step == 0 and step <= splash.LONGEST_STEP
