"""Softmax attention for CPUs: one plain batched matmul per product, division at the end.

The same numbers as `reference.py`, 2-4 times faster there (16 samples x 144 tokens x 6 heads of 32:
19 -> 4.6 ms, its gradient 47 -> 20 ms of one core), for three reasons: samples and heads become one
leading axis before any product, so that no product needs a transposed output; the [l k] result is
divided by the sum of the weights, not the [l s] weights; and no gradient is computed through the
maximum, which cancels.

Tests: tests/kernels/attention_test.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ft_jax.kernels.reference import MASKED


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v; scores and softmax in float32; mask True keeps a key."""
    b, l, n, width = q.shape
    q, k, v = (x.swapaxes(1, 2).reshape(b * n, -1, width) for x in (q * scale, k, v))
    scores = jnp.matmul(q, k.swapaxes(1, 2), preferred_element_type=jnp.float32)
    if mask is not None:
        mask = jnp.broadcast_to(mask, (b, n, *mask.shape[2:])).reshape(b * n, *mask.shape[2:])
        scores = jnp.where(mask, scores, MASKED)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    if mask is not None:
        weights = jnp.where(mask, weights, 0.0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total
    return out.astype(v.dtype).reshape(b, n, l, width).swapaxes(1, 2)
