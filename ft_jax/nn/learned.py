"""A learned array that is added to or attended from, not multiplied: modulation rows, queries."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ft_jax.nn.linear import Init, initializer


class Learned(nn.Module):
    """One parameter, `table`, of the given shape."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    initial: Init = 0.02

    @nn.compact
    def __call__(self) -> jax.Array:
        """The table in float32."""
        table = self.param("table", initializer(self.initial, self.axes), self.shape)
        return jnp.asarray(table, jnp.float32)
