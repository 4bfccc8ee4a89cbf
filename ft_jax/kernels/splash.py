"""Softmax attention for TPUs: JAX's splash attention, forward and backward.

Scores exist only as tiles in the chip's own memory; softmax and sums are float32. What the kernel
does not do itself is done around it:

  keys that are masked     segment ids: kept keys and all queries are 1, the others 0
  lengths                  filled up with zeros to whole tiles; the keys added are masked
  scale                    folded into the queries
  a sample without keys    gives 0

Frame mode of the speech branch comes here as one short attention per latent frame, its window a row
of keys with a mask (ft_jax/models/term.py), so a mask per query is never needed here.

The two passes are called apart, because the operation they are parts of (dispatch.py) has the same
residuals on every platform. For the backward pass that takes a function which splash does not
export; the tests run it.

Source: jax.experimental.pallas.ops.tpu.splash_attention.
Tests: tests/kernels/splash_test.py, which runs these kernels in interpret mode.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as library,
)
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo
from jaxtyping import Array, Bool, Float

from ft_jax.kernels.reference import Gradients, Saved

LANES = 128  # lengths of tiles are multiples
LONGEST = 1024  # tile of queries or keys
LONGEST_STEP = 512  # keys whose scores are computed at a time
UNMASKED = MaskInfo(None, None, None, None, None)  # every tile is computed


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
    interpret: bool = False,
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v; `interpret` runs the kernel on any platform, slowly."""
    sizes = block_sizes(q.shape[1], k.shape[1])
    kernel = _kernel(sizes, False, interpret)
    inputs = _inputs(q, k, v, scale, sizes)
    out: Any = jax.vmap(kernel)(*inputs, _segments(q, k, mask, sizes))
    return _result(out, q.shape[1], mask)


def forward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
    interpret: bool = False,
) -> Saved:
    """`attention`, and the logarithm of the sum of each query's weights."""
    sizes = block_sizes(q.shape[1], k.shape[1])
    kernel = _kernel(sizes, True, interpret)
    inputs = _inputs(q, k, v, scale, sizes)
    out, (total,) = jax.vmap(kernel)(*inputs, _segments(q, k, mask, sizes))
    return _result(out, q.shape[1], mask), total[..., : q.shape[1]]


def backward(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    scale: float,
    saved: Saved,
    grad: Float[Array, "b l n k"],
    interpret: bool = False,
) -> Gradients:
    """Gradients of q, k, v from what `forward` gave and the gradient of its first result."""
    sizes = block_sizes(q.shape[1], k.shape[1])
    if mask is not None:
        grad = jnp.where(_has_keys(mask), grad, 0)
    inputs, (out, total) = _inputs(q, k, v, scale, sizes), saved
    out, grad = (_heads_first(x, sizes.block_q) for x in (out, grad))
    total = jnp.pad(total, ((0, 0), (0, 0), (0, out.shape[2] - total.shape[2])))
    settings = (False, library.DEFAULT_MASK_VALUE, False, sizes, None, None, None, interpret)

    def sample(
        inputs: tuple[Array, ...], segments: library.SegmentIds | None, *given: Array
    ) -> tuple[Array, ...]:
        out, total, grad = given
        residuals: Any = (*inputs, segments, None, out, total, UNMASKED, UNMASKED)
        return library._splash_attention_bwd(*settings, residuals, grad)[3:6]

    segments = _segments(q, k, mask, sizes)
    dq, dk, dv = jax.vmap(sample)(inputs, segments, out, total, grad)
    dq = dq.astype(jnp.float32) * scale
    dq, dk, dv = (
        x.swapaxes(1, 2)[:, : like.shape[1]].astype(like.dtype)
        for x, like in ((dq, q), (dk, k), (dv, v))
    )
    return dq, dk, dv


def block_sizes(queries: int, keys: int) -> library.BlockSizes:
    """Tiles for these lengths, the same in both passes, so that both fill up alike."""
    rows, columns = tile(queries), tile(keys)
    step = max(x for x in range(LANES, LONGEST_STEP + 1, LANES) if columns % x == 0)
    return library.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_kv_compute=step,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_kv_dkv_compute=step,
        use_fused_bwd_kernel=True,  # two kernels would compute scores and their gradient twice
    )


def tile(length: int) -> int:
    """The largest of the tiles that cover `length` with the least padding."""
    fewest = -(-length // LONGEST)
    tiles = {_up(-(-length // count), LANES) for count in range(fewest, 2 * fewest + 1)}
    return min(tiles, key=lambda rows: (_up(length, rows), -rows))


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _kernel(
    sizes: library.BlockSizes, residuals: bool, interpret: bool
) -> library.SplashAttentionKernel:
    return library.SplashAttentionKernel(
        UNMASKED,
        None,
        None,
        block_sizes=sizes,
        is_mqa=False,
        save_residuals=residuals,
        mask_value=library.DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name=None,
        mask_function=None,
        interpret=interpret,
    )


def _inputs(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    scale: float,
    sizes: library.BlockSizes,
) -> tuple[Array, Array, Array]:
    q = (q.astype(jnp.float32) * scale).astype(q.dtype)
    return (
        _heads_first(q, sizes.block_q),
        _heads_first(k, sizes.block_kv),
        _heads_first(v, sizes.block_kv),
    )


def _heads_first(x: Float[Array, "b l n k"], multiple: int) -> Float[Array, "b n _ k"]:
    """[b l n k] -> [b n l k], filled up with zeros to a multiple of `multiple`."""
    rows = _up(x.shape[1], multiple) - x.shape[1]
    return jnp.pad(x.swapaxes(1, 2), ((0, 0), (0, 0), (0, rows), (0, 0)))


def _segments(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    mask: Bool[Array, "b 1 1 s"] | None,
    sizes: library.BlockSizes,
) -> library.SegmentIds | None:
    """None where every key is kept: the kernel is then free of comparisons."""
    batch, keys = k.shape[:2]
    rows = _up(keys, sizes.block_kv) - keys
    if mask is None and not rows:
        return None
    kept = jnp.ones((batch, keys), bool) if mask is None else mask[:, 0, 0]
    kept = jnp.pad(kept, ((0, 0), (0, rows))).astype(jnp.int32)
    return library.SegmentIds(
        q=jnp.ones((batch, _up(q.shape[1], sizes.block_q)), jnp.int32), kv=kept
    )


def _result(
    out: Float[Array, "b n _ k"], queries: int, mask: Bool[Array, "b 1 1 s"] | None
) -> Float[Array, "b {queries} n k"]:
    out = out[:, :, :queries].swapaxes(1, 2)
    return out if mask is None else jnp.where(_has_keys(mask), out, 0)


def _has_keys(mask: Bool[Array, "b 1 1 s"]) -> Bool[Array, "b 1 1 1"]:
    return mask.any(-1, keepdims=True)
