"""Attention on a mesh: the one signature that models call.

A kernel is a black box to the partitioner, which would gather all its inputs on every device. So
under `partitioned` (ft_jax/sharding/constrain.py) each device runs the kernel on its own part, and
what it lacks is exchanged before:

  samples, heads      nothing: they do not see each other
  queries             split over the context axis; nothing, each device answers its own
  keys of a context   (text, image, speech, identity) whole on every device
  keys of the video   split like the queries. Where the context axis divides a device's heads, an
                      all-to-all turns a part of the tokens of all heads into all tokens of a part
                      of the heads, and another turns the result back (Ulysses); else the keys are
                      gathered

Video tokens are space-major, (h w) t, so that a part of them is a set of positions with all their
frames, and frame mode (one short attention per latent frame) needs no exchange. Lengths that the
axis does not divide are filled up, and the keys added are masked; samples and heads that an axis
does not divide are computed whole on each of its devices.

It stands above kernels and sharding, which know nothing of each other.

Tests: tests/multidevice/attention_test.py; without a mesh tests/kernels/attention_test.py.
"""

import functools
import math
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float

from ft_jax import kernels
from ft_jax.sharding.constrain import split_over

KeyAxis = Literal["act_seq", "act_context"]


def attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b s"] | None = None,
    scale: float | None = None,
    keys: KeyAxis = "act_context",
) -> Float[Array, "b l n k"]:
    """softmax(q k^T * scale) v over the keys that `mask` keeps.

    Args:
      q: Queries.
      k: Keys.
      v: Values, one a key.
      mask: True keeps a key. A sample whose keys are all masked gives 0.
      scale: Default 1 / sqrt(k).
      keys: What the keys are: video tokens, split like the queries ("act_seq"), or whole on every
        device ("act_context"). Also the name under which remat policies find what the backward
        pass needs (`act_seq_inputs`, `act_seq_result`; see ft_jax/kernels/dispatch.py).
    """
    batch = dividing(split_over("act_batch"), q.shape[0])
    heads = dividing(split_over("act_heads"), q.shape[2])
    parts = split_over("act_seq")
    if not (batch or heads or parts):
        return kernels.attention(q, k, v, mask, scale, keys)
    queries, count = q.shape[1], math.prod(parts.values())
    are_split = keys == "act_seq" and count > 1
    if are_split and k.shape[1] % count:
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        mask = fill_up(mask, count)
        k, v = fill_up(k, count), fill_up(v, count)
    spec = lambda *axes: PartitionSpec(*(tuple(axis) or None for axis in axes))  # noqa: E731
    out = jax.shard_map(
        functools.partial(
            _on_one_device, scale=scale, name=keys, parts=tuple(parts) if are_split else ()
        ),
        in_specs=(
            spec(batch, parts, heads),
            *[spec(batch, parts if are_split else (), heads)] * 2,
            None if mask is None else spec(batch),
        ),
        out_specs=spec(batch, parts, heads),
        check_vma=False,  # kernels do not say over which axes their results vary
    )(fill_up(q, count), k, v, mask)
    return out[:, :queries]


def _on_one_device(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b s n k"],
    v: Float[Array, "b s n k"],
    mask: Bool[Array, "b _"] | None,
    scale: float | None,
    name: str,
    parts: tuple[str, ...],
) -> Float[Array, "b l n k"]:
    """The part of one device; `parts` are the mesh axes that split the keys."""
    if not parts:
        return kernels.attention(q, k, v, mask, scale, name)
    if q.shape[2] % jax.lax.axis_size(parts):
        k, v = (jax.lax.all_gather(x, parts, axis=1, tiled=True) for x in (k, v))
        return kernels.attention(q, k, v, mask, scale, name)
    exchange = functools.partial(jax.lax.all_to_all, axis_name=parts, tiled=True)
    q, k, v = (exchange(x, split_axis=2, concat_axis=1) for x in (q, k, v))
    out = kernels.attention(q, k, v, mask, scale, name)
    return exchange(out, split_axis=1, concat_axis=2)


def dividing(axes: Mapping[str, int], size: int) -> Mapping[str, int]:
    """The mesh axes, if they divide `size`; else none."""
    return axes if size % math.prod(axes.values()) == 0 else {}


def fill_up(x: jax.Array, multiple: int) -> jax.Array:
    """Zeros (False) behind axis 1 up to a multiple."""
    rows = -x.shape[1] % multiple
    return jnp.pad(x, [(0, rows if axis == 1 else 0) for axis in range(x.ndim)])
