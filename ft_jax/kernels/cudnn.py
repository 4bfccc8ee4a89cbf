"""Softmax attention for NVIDIA GPUs: cuDNN's, through JAX.

Scores exist only as tiles; softmax and sums are float32. What cuDNN does not do itself is done
around it:

  keys that are masked    moved behind the kept ones, whose number it is given: softmax does not
                          care for the order of the keys, and a mask of its own would be an array
                          of the size of the scores
  odd lengths             filled up with a zero, which is masked
  a sample without keys   gives 0

It has no float32 (`parity` is computed by the reference there), and widths of a head go up to 128
in steps of 8.

The backward pass runs the forward kernel again: JAX hands out the log-sum-exp only rounded to the
type of the result, from which no gradient can be made.

Source: jax.nn.dot_product_attention. Tests: tests/kernels/cudnn_test.py.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ft_jax.kernels import reference
from ft_jax.kernels.reference import Gradients, Saved

TYPES = (jnp.bfloat16, jnp.float16)
WIDEST, STEP = 128, 8  # of a head


def takes(q: Float[Array, "b l n k"]) -> bool:
    """Does it have this type and this width of a head?"""
    width = q.shape[-1]
    return q.dtype in TYPES and width <= WIDEST and width % STEP == 0


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v; mask True keeps a key."""
    fused = functools.partial(jax.nn.dot_product_attention, scale=scale, implementation="cudnn")
    (batch, queries), keys = q.shape[:2], k.shape[1]
    count = None
    if mask is not None:
        kept = mask[:, 0, 0]
        order = jnp.argsort(~kept, axis=1, stable=True)[:, :, None, None]
        k, v = (jnp.take_along_axis(x, order, axis=1) for x in (k, v))
        count = kept.sum(1, dtype=jnp.int32)
    elif keys % 2:
        count = jnp.full((batch,), keys, jnp.int32)
    lengths = None if count is None else jnp.maximum(count, 1)
    try:
        out = fused(*map(_even, (q, k, v)), key_value_seq_lengths=lengths)[:, :queries]
    except NotImplementedError:
        raise
    except RuntimeError:
        # No cuDNN in this installation, so no GPU either: what is traced here is not lowered.
        out = reference.attention(q, k, v, None, scale)
    return out if mask is None else jnp.where(mask.any(-1, keepdims=True), out, 0)


def _even(x: Float[Array, "b l n k"]) -> Float[Array, "b _ n k"]:
    return jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))


def forward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
) -> Saved:
    """`attention`, and zeros in the place of what `backward` does not need."""
    b, l, n, _ = q.shape
    return attention(q, k, v, mask, scale), jnp.zeros((b, n, l), jnp.float32)


def backward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
    saved: Saved,
    grad: Float[Array, "b l n k"],
) -> Gradients:
    """Gradients of q, k, v; what `forward` gave is not needed."""
    del saved
    return jax.vjp(lambda q, k, v: attention(q, k, v, mask, scale), q, k, v)[1](grad)
