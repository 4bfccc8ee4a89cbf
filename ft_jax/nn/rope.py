"""Rotary positions over time, rows and columns, for tokens in the order (h w) t.

A head of width k has k/2 pairs of neighbouring lanes; the pairs are split between time, rows and
columns as the reference does (128 -> 44 + 42 + 42 lanes): rows and columns get 2 * (k // 6) lanes
each, time the rest. Tables are built in float64 on the host.

A pair (a, b) becomes (a cos - b sin, b cos + a sin), that is: the lanes times cosines, plus the
lanes with neighbours exchanged times sines of alternate sign. Its gradient is the rotation back.

Source: Wan2.1 rope_params, rope_apply. Tests: tests/nn/rope_test.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Table = tuple[np.ndarray | jax.Array, np.ndarray | jax.Array]


def rope_table(frames: int, rows: int, columns: int, head_width: int) -> Table:
    """Cosines and signed sines [l, k] of the angles, float32, tokens in the order (h w) t."""
    spatial = 2 * (head_width // 6)
    sizes = (head_width - 2 * spatial, spatial, spatial)
    angles = [
        np.outer(np.arange(count), 10000.0 ** (-np.arange(0, size, 2) / size))
        for count, size in zip((frames, rows, columns), sizes, strict=True)
    ]
    time, row, column = angles
    shape = (rows, columns, frames)
    parts = (
        np.broadcast_to(time[None, None], (*shape, time.shape[1])),
        np.broadcast_to(row[:, None, None], (*shape, row.shape[1])),
        np.broadcast_to(column[None, :, None], (*shape, column.shape[1])),
    )
    angle = np.concatenate(parts, axis=-1).reshape(-1, head_width // 2)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    signed = np.stack([-sin, sin], axis=-1).reshape(-1, head_width)
    return np.repeat(cos, 2, axis=-1), signed


def apply_rope(x: Float[Array, "b l n k"], table: Table) -> Float[Array, "b l n k"]:
    """Rotates each pair of neighbouring lanes (2j, 2j + 1) by the token's angle, in float32."""
    cos, sin = table
    return _rotated(x, jnp.asarray(cos), jnp.asarray(sin))


@jax.custom_vjp
def _rotated(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    cos, sin = cos[None, :, None], sin[None, :, None]
    exchanged = jax.lax.platform_dependent(x, tpu=jax.jit(exchange_lanes), default=_by_reversal)
    return (x.astype(jnp.float32) * cos + exchanged * sin).astype(x.dtype)


def _back(angle: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, None, None]:
    cos, sin = angle
    return _rotated(gradient, cos, -sin), None, None


_rotated.defvjp(lambda x, cos, sin: (_rotated(x, cos, sin), (cos, sin)), _back)


def exchange_lanes(x: jax.Array) -> jax.Array:
    """Neighbours exchanged, float32: exact, as every sum has one term that is not zero.

    Any form that cuts lanes apart makes the compiler for TPUs copy the array between layouts, six
    times over; a product of k lanes is a fortieth of the projection before it. It moves numbers, so
    that whoever counts operations passes over it.
    """
    exchange = np.eye(x.shape[-1])[np.arange(x.shape[-1]) ^ 1]
    return jnp.einsum(
        "...k,kj->...j",
        x,
        jnp.asarray(exchange, x.dtype),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def _by_reversal(x: jax.Array) -> jax.Array:
    """Neighbours exchanged, float32."""
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    return pairs[..., ::-1].reshape(x.shape)
