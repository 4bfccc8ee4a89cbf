"""The sinusoid of the timestep is exact, although it is computed in float32."""

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.nn.embed import timestep_sinusoid


def test_sinusoid_agrees_with_float64_over_the_whole_range():
    timestep = np.linspace(0, 1000, 4001).astype(np.float32)
    angle = timestep.astype(np.float64)[:, None] * 10000.0 ** (-np.arange(128) / 128)
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    for function in (timestep_sinusoid, jax.jit(timestep_sinusoid, static_argnums=1)):
        assert np.abs(np.asarray(function(jnp.asarray(timestep), 256)) - expected).max() < 1e-6
