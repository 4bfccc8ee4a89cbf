"""Token tables and the sinusoid of the timestep."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ft_jax.nn.linear import initializer


class Embed(nn.Module):
    """A table [rows, width], looked up by index."""

    rows: int
    width: int
    initial: float = 0.02

    @nn.compact
    def __call__(self, ids: Int[Array, "*b"]) -> Float[Array, "*b c"]:
        """One row an index."""
        table = self.param(
            "table", initializer(self.initial, ("vocab", "embed")), (self.rows, self.width)
        )
        return jnp.take(jnp.asarray(table), ids, axis=0)


def timestep_sinusoid(timestep: Float[Array, " b"], width: int) -> Float[Array, "b {width}"]:
    """[cos, sin] of timestep * 10000^(-i / (width / 2)); timestep in 0..1000, not rounded.

    The reference builds it in float64; plain float32 is off by 5.6e-5 at large angles. Here the
    number of turns is computed as a product of two floats each split in halves, so that its whole
    part can be dropped exactly and the angle that is left is small.

    Source: Wan2.1 sinusoidal_embedding_1d. Tests: tests/nn/embed_test.py (against float64).
    """
    half = width // 2
    turns = 10000.0 ** (-np.arange(half, dtype=np.float64) / half) / (2 * np.pi)
    high = turns.astype(np.float32)
    # 12 leading bits each, so that products of halves are exact in float32.
    high = (high.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    rest = turns - high
    middle = rest.astype(np.float32)
    middle = (middle.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
    low = (rest - middle).astype(np.float32)
    t = timestep.astype(jnp.float32)[:, None]
    high, middle, low = high[None], middle[None], low[None]
    t_high = _leading_bits(t)
    t_low = t - t_high
    fraction = _fraction(t_high * high) + _fraction(t_low * high)
    fraction = fraction + t_high * middle + (t_low * middle + t * low)
    angle = jnp.float32(2 * np.pi) * _fraction(fraction)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def _leading_bits(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _fraction(x: jax.Array) -> jax.Array:
    return x - jnp.round(x)
