"""Softmax attention for CPUs: plain matmuls of sizes that stay in the cache.

Samples and heads become one leading axis before any product, because a product with a transposed
output is slow there, and barriers keep the transposition out of the products. Small attentions are
one batched product over that axis; larger ones are mapped over heads and pieces of the queries, as
matrices, so that no more than PIECE scores exist at a time. The [l k] result is divided by the sum
of the weights, not the [l s] weights. The backward pass makes the weights again from the
log-sum-exp of the scores: nothing of size [l s] is kept.

Measured against PyTorch by benchmarks/attention.py: on one core and 1280 tokens of 6 heads forward
takes 1.3 times its time, with gradients 1.3 to 1.4. The two products alone take as long here as all
of PyTorch's; neither half nor four times the PIECE nor leaving out the maximum gains 4 %.

Tests: tests/kernels/attention_test.py, tests/kernels/cpu_test.py.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ft_jax.kernels.reference import MASKED, Gradients, Saved

SMALL = 2**16  # scores of one head; up to here one batched product is the fastest
PIECE = 2**18  # scores that exist at a time beyond it: 1 MiB
LEAST_ROWS = 64  # queries of a piece, however many keys there are


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
    b, l, n, _ = q.shape
    q, k, v = jax.lax.optimization_barrier((_fold(q * scale), _fold(k), _fold(v)))
    mask = _fold_mask(mask, b, n)
    if is_small(l, k.shape[1]):
        out, total = _attend(q, k, v, mask)
    else:
        rows = piece_rows(l, k.shape[1])

        def head(one: tuple[Any, ...]) -> tuple[Array, Array]:
            q, k, v, mask = one
            return jax.lax.map(lambda piece: _attend(piece[0], k, v, piece[1]), (q, mask))

        pieces = (_split(q, rows), k, v, _split_mask(mask, l, rows))
        out, total = (_join(x, l) for x in jax.lax.map(head, pieces))
    out = _unfold(jax.lax.optimization_barrier(out), n)
    return out.astype(v.dtype), total.reshape(b, n, l)


def backward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b #n #l s"] | None,
    scale: float,
    saved: Saved,
    grad: Float[Array, "b l n k"],
) -> Gradients:
    """Gradients of q, k, v from what `forward` gave and the gradient of its first result."""
    b, l, n, _ = q.shape
    kinds, (out, total) = (q.dtype, k.dtype, v.dtype), saved
    q, k, v, out, grad = jax.lax.optimization_barrier(
        (_fold(q * scale), _fold(k), _fold(v), _fold(out), _fold(grad))
    )
    mask, total = _fold_mask(mask, b, n), total.reshape(b * n, l, 1)
    if is_small(l, k.shape[1]):
        grads = _gradients(q, k, v, mask, out, total, grad)
    else:
        rows = piece_rows(l, k.shape[1])

        def head(one: tuple[Any, ...]) -> Gradients:
            q, k, v, mask, *given = one
            zeros = jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)

            def piece(sums: tuple[Array, Array], one: tuple[Any, ...]) -> tuple[Any, Array]:
                dq, dk, dv = _gradients(one[0], k, v, *one[1:])
                return (sums[0] + dk, sums[1] + dv), dq

            (dk, dv), dq = jax.lax.scan(piece, zeros, (q, mask, *given))
            return dq, dk, dv

        given = (_split(x, rows) for x in (out, total, grad))
        pieces = (_split(q, rows), k, v, _split_mask(mask, l, rows), *given)
        dq, dk, dv = jax.lax.map(head, pieces)
        grads = _join(dq, l), dk, dv
    dq, dk, dv = jax.lax.optimization_barrier(grads)
    parts = zip((dq * scale, dk, dv), kinds, strict=True)
    dq, dk, dv = (_unfold(x, n).astype(kind) for x, kind in parts)
    return dq, dk, dv


def is_small(queries: int, keys: int) -> bool:
    """Is it one batched product over all heads?"""
    return queries * keys <= SMALL


def piece_rows(queries: int, keys: int) -> int:
    """Queries that are handled at a time: pieces of one size, with little added to the last."""
    most = max(LEAST_ROWS, PIECE // keys)
    return -(-queries // -(-queries // most))


def _attend(
    q: Float[Array, "... l k"],
    k: Float[Array, "... s k"],
    v: Float[Array, "... s k"],
    mask: Bool[Array, "... #l s"] | None,
) -> tuple[Float[Array, "... l k"], Float[Array, "... l 1"]]:
    scores = _scores(q, k, mask)
    most = scores.max(-1, keepdims=True)
    weights = jnp.exp(scores - most)
    if mask is not None:
        weights = jnp.where(mask, weights, 0.0)
    weights = jax.lax.optimization_barrier(weights)  # else its exponentials are computed twice
    total = jnp.maximum(weights.sum(-1, keepdims=True), 1e-30)
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=jnp.float32) / total
    return out.astype(v.dtype), most + jnp.log(total)


def _gradients(
    q: Float[Array, "... l k"],
    k: Float[Array, "... s k"],
    v: Float[Array, "... s k"],
    mask: Bool[Array, "... #l s"] | None,
    out: Float[Array, "... l k"],
    total: Float[Array, "... l 1"],
    grad: Float[Array, "... l k"],
) -> Gradients:
    weights = jnp.exp(_scores(q, k, mask) - total)
    if mask is not None:
        weights = jnp.where(mask, weights, 0.0)
    weights = jax.lax.optimization_barrier(weights)
    inner = (grad.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1, keepdims=True)
    slopes = jnp.matmul(grad, v.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    slopes = jax.lax.optimization_barrier((weights * (slopes - inner)).astype(k.dtype))
    product = lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32)  # noqa: E731
    across = lambda x: x.swapaxes(-1, -2)  # noqa: E731
    return (
        product(slopes, k),
        product(across(slopes), q),
        product(across(weights.astype(grad.dtype)), grad),
    )


def _scores(
    q: Float[Array, "... l k"], k: Float[Array, "... s k"], mask: Bool[Array, "... #l s"] | None
) -> Float[Array, "... l s"]:
    scores = jnp.matmul(q, k.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    return scores if mask is None else jnp.where(mask, scores, MASKED)


def _fold(x: Float[Array, "b l n k"]) -> Float[Array, "heads l k"]:
    return x.swapaxes(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _unfold(x: Float[Array, "heads l k"], heads: int) -> Float[Array, "b l {heads} k"]:
    return x.reshape(-1, heads, *x.shape[1:]).swapaxes(1, 2)


def _fold_mask(
    mask: Bool[Array, "b #n #l s"] | None, batch: int, heads: int
) -> Bool[Array, "heads #l s"] | None:
    if mask is None:
        return None
    return jnp.broadcast_to(mask, (batch, heads, *mask.shape[2:])).reshape(-1, *mask.shape[2:])


def _split(x: Array, rows: int) -> Array:
    """[heads l k] -> [heads pieces rows k], filled up with zeros."""
    count = -(-x.shape[1] // rows)
    x = jnp.pad(x, ((0, 0), (0, count * rows - x.shape[1]), (0, 0)))
    return x.reshape(x.shape[0], count, rows, x.shape[2])


def _split_mask(mask: Array | None, queries: int, rows: int) -> Array | None:
    if mask is None:
        return None
    if mask.shape[1] > 1:
        return _split(mask, rows)
    return jnp.broadcast_to(mask[:, None], (len(mask), -(-queries // rows), 1, mask.shape[2]))


def _join(x: Array, queries: int) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[3])[:, :queries]
