"""Rotary positions over time, rows and columns, for tokens in the order (h w) t.

A head of width k has k/2 pairs of neighbouring lanes; the pairs are split between time, rows and
columns as the reference does (128 -> 44 + 42 + 42 lanes): rows and columns get 2 * (k // 6) lanes
each, time the rest. Tables are built in float64 on the host.

Source: Wan2.1 rope_params, rope_apply. Tests: tests/nn/rope_test.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Table = tuple[np.ndarray | jax.Array, np.ndarray | jax.Array]


def rope_table(frames: int, rows: int, columns: int, head_width: int) -> Table:
    """Cosines and sines [l, k/2] of the angles, float32, tokens in the order (h w) t."""
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
    table = np.concatenate(parts, axis=-1).reshape(-1, head_width // 2)
    return np.cos(table).astype(np.float32), np.sin(table).astype(np.float32)


def apply_rope(x: Float[Array, "b l n k"], table: Table) -> Float[Array, "b l n k"]:
    """Rotates each pair of neighbouring lanes (2j, 2j + 1) by the token's angle, in float32."""
    cos, sin = (jnp.asarray(part)[None, :, None, :, None] for part in table)
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
    turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1)
    return (pairs * cos + turned * sin).reshape(x.shape).astype(x.dtype)
