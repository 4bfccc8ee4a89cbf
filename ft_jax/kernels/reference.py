"""Softmax attention as it is written down: the truth the other kernels are tested against."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -1e30  # finite, so that a row without any key gives 0 instead of NaN


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v; scores and softmax in float32; mask True keeps a key."""
    scores = jnp.einsum("blnk,bsnk->bnls", q, k, preferred_element_type=jnp.float32) * scale
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    if mask is not None:
        weights = jnp.where(mask, weights, 0.0)
    total = weights.sum(-1, keepdims=True)
    weights = weights / jnp.maximum(total, 1e-30)
    return jnp.einsum("bnls,bsnk->blnk", weights.astype(v.dtype), v)
