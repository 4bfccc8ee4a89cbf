"""Softmax attention as it is written down: the truth the other kernels are tested against.

Every kernel of this folder has the same three functions: `attention`, `forward`, which also gives
what the backward pass needs, and `backward`.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

MASKED = -1e30  # finite, so that a row without any key gives 0 instead of NaN

Gradients: TypeAlias = tuple[Array, Array, Array]
"""Of queries, keys and values, each shaped like its own."""

Saved: TypeAlias = tuple[Float[Array, "b l n k"], Float[Array, "b n l"]]
"""The result, and the logarithm of the sum of each query's weights."""


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v; scores and softmax in float32; mask True keeps a key."""
    return forward(q, k, v, mask, scale)[0]


def forward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
) -> Saved:
    """`attention`, and the logarithm of the sum of each query's weights."""
    scores = jnp.einsum("blnk,bsnk->bnls", q, k, preferred_element_type=jnp.float32) * scale
    if mask is not None:
        scores = jnp.where(mask, scores, MASKED)
    most = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - most)
    if mask is not None:
        weights = jnp.where(mask, weights, 0.0)
    total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
    out = jnp.einsum("bnls,bsnk->blnk", (weights / total).astype(v.dtype), v)
    return out, (most + jnp.log(total))[..., 0]


def backward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
    saved: Saved,
    grad: Float[Array, "b l n k"],
) -> Gradients:
    """Gradients of q, k, v, by JAX; what `forward` gave is not needed."""
    del saved
    return jax.vjp(lambda q, k, v: attention(q, k, v, mask, scale), q, k, v)[1](grad)
