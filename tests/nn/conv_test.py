"""Both forms of a 3-D convolution are one function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.nn import conv

CAUSAL = [(2, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2)])
def test_time_taps_as_channels_equal_the_3d_convolution(strides):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (2, 5, 6, 8, 4))
    kernel = jax.random.normal(keys[1], (3, 3, 3, 4, 5))

    def loss(form, x, kernel):
        return jnp.sin(form(x, kernel)).sum()

    folded = lambda x, kernel: conv._taps_in_channels(x, kernel, strides, CAUSAL)  # noqa: E731
    direct = lambda x, kernel: conv._convolve(x, kernel, strides, CAUSAL, 1)  # noqa: E731
    np.testing.assert_allclose(folded(x, kernel), direct(x, kernel), atol=2e-5)
    for argument in (1, 2):
        a = jax.grad(loss, argument)(folded, x, kernel)
        b = jax.grad(loss, argument)(direct, x, kernel)
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_padding_on_the_left_makes_it_causal():
    kernel = jax.random.normal(jax.random.key(1), (3, 1, 1, 2, 2))
    x = jax.random.normal(jax.random.key(2), (1, 6, 1, 1, 2))

    def frame(x, index):
        return conv.convolve(x, kernel, (1, 1, 1), [(2, 0), (0, 0), (0, 0)])[0, index].sum()

    moved = np.abs(jax.grad(frame)(x, 3)).sum((0, 2, 3, 4)) > 0
    assert moved.tolist() == [False, True, True, True, False, False]
