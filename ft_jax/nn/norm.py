"""Normalisations: statistics in float32, result in the type of the input."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ft_jax.nn.linear import lift

_INITIAL = {
    name: nn.with_logical_partitioning(base, ("norm",))
    for name, base in (("scale", nn.initializers.ones), ("bias", nn.initializers.zeros))
}


def _vector(module: nn.Module, name: str, width: int, rank: int) -> jax.Array:
    """The parameter `name` [width] of `module` in float32, shaped against the last axis."""
    vector = jnp.asarray(module.param(name, _INITIAL[name], (width,)))
    return lift(vector.astype(jnp.float32), rank)


class LayerNorm(nn.Module):
    """Zero mean and unit variance over the last axis; `affine` adds scale and bias."""

    width: int
    eps: float = 1e-6
    affine: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalises each vector on its own."""
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        if self.affine:
            y = y * _vector(self, "scale", self.width, x.ndim)
            y = y + _vector(self, "bias", self.width, x.ndim)
        return y.astype(x.dtype)


class RMSNorm(nn.Module):
    """Unit root mean square over the last axis, times a scale."""

    width: int
    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Rounds to the type of `x` before the scale, as the reference does."""
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        scale = _vector(self, "scale", self.width, x.ndim)
        return y.astype(x.dtype) * scale.astype(x.dtype)


class ChannelNorm(nn.Module):
    """x / max(||x||_2, 1e-12) * sqrt(width) * scale: the norm of the Wan VAE."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Normalises over channels, each position on its own."""
        y = x.astype(jnp.float32)
        # rsqrt of the clamped square: the norm's own gradient at 0 would be NaN.
        y = y * jax.lax.rsqrt(jnp.maximum(jnp.square(y).sum(-1, keepdims=True), 1e-24))
        scale = _vector(self, "scale", self.width, x.ndim)
        return (y * (scale * self.width**0.5)).astype(x.dtype)


class GroupNorm(nn.Module):
    """Statistics over all positions and the channels of one group."""

    width: int
    groups: int
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b *l c"]) -> Float[Array, "b *l c"]:
        """Normalises each sample on its own."""
        y = x.astype(jnp.float32).reshape(x.shape[0], -1, self.groups, self.width // self.groups)
        y = y - y.mean((1, 3), keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean((1, 3), keepdims=True) + self.eps)
        y = y.reshape(x.shape) * _vector(self, "scale", self.width, x.ndim)
        y = y + _vector(self, "bias", self.width, x.ndim)
        return y.astype(x.dtype)
