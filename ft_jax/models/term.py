"""One more thing every block attends to: keys and values in, a summand of the cross-attention out.

A branch (speech, identity) computes its keys and values for all blocks at once and hands them over
as a `Term`. Each block adds `scale * attention(query, key, value)` to the sum of its text and image
attention, before the shared output projection (or, not `projected`, to what comes out of it); the
query is the block's own, normalised.

  key, value   [layers b s n k]   one slice per block; may have fewer rows, see below
  scale        [b]                0 = this sample does not hear the branch
  windows      None: every video token sees all s keys (clip mode)
               else: the tokens of latent frame t see only its window (frame mode)

Invariants. A term may have fewer rows than the batch: the first r samples hear it and the others do
not compute it, which is how the guidance branches share one batch. Keys that a window masks have no
influence; an empty window gives 0. A term whose values are 0 changes no bit of the result.

Source: FantasyTalking sec. 3.2, WanCrossAttentionProcessor. Differs: windows are gathered from the
keys of the whole clip inside the block, and padding is masked instead of cut off.
Tests: tests/models/audio_test.py, tests/models/dit_test.py.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from ft_jax.nn.attention import attention
from ft_jax.nn.linear import Linear


@struct.dataclass
class AudioWindows:
    """Which audio tokens belong to which latent frame; `frame_windows` makes it.

    Attributes:
      index: Positions among the audio tokens; 0 where masked, a position beyond the last for zeros.
      mask: True = a token of this window, False = padding.
    """

    index: Int[Array | np.ndarray, "t p"]
    mask: Bool[Array | np.ndarray, "t p"]


@struct.dataclass
class Keys:
    """What one branch is attended to by: of all blocks (layers), or of one."""

    key: Float[Array, "*layers b s n k"]
    value: Float[Array, "*layers b s n k"]


@struct.dataclass
class Hearing:
    """How strongly each sample hears a branch, which keys each latent frame sees, added where."""

    scale: Float[Array, " b"]
    windows: AudioWindows | None
    projected: bool = struct.field(pytree_node=False, default=True)


@struct.dataclass
class Term:
    """One branch as every block takes it, see the head of this file."""

    keys: Keys
    hearing: Hearing


def stacked_linear(layers: int, inputs: int, outputs: int, dtype: Any) -> nn.Module:
    """One bias-free linear map per block, all zero: [b s c] -> [layers b s d], kernel stacked."""
    stacked: Any = nn.vmap(
        Linear,
        in_axes=None,  # type: ignore[arg-type]  # every block projects the same tokens
        out_axes=0,
        axis_size=layers,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    axes = ("context_embed", "heads")
    return stacked(inputs, outputs, axes, use_bias=False, initial="zeros", dtype=dtype)


def make_term(
    key: Float[Array, "layers b s d"],
    value: Float[Array, "layers b s d"],
    heads: int,
    scale: Float[Array, " b"],
    windows: AudioWindows | None = None,
    projected: bool = True,
) -> Term:
    """Keys and values of all blocks, split into heads."""
    shape = (*key.shape[:-1], heads, key.shape[-1] // heads)
    scale = jnp.asarray(scale, jnp.float32)
    if windows is not None:
        windows = jax.tree.map(jnp.asarray, windows)
    return Term(Keys(key.reshape(shape), value.reshape(shape)), Hearing(scale, windows, projected))


def attend(
    query: Float[Array, "b l n k"], keys: Keys, windows: AudioWindows | None
) -> Float[Array, "b l n k"]:
    """Attention of video tokens, in the order (h w) t, over all keys or their frame's window."""
    if windows is None:
        return attention(query, keys.key, keys.value)
    batch, tokens, heads, width = query.shape
    frames, length = windows.index.shape
    # [b (h w) t] -> [(b t) (h w)]: one small attention per latent frame.
    query = query.reshape(batch, tokens // frames, frames, heads, width).swapaxes(1, 2)
    query = query.reshape(batch * frames, tokens // frames, heads, width)
    key, value = (
        x.at[:, windows.index]
        .get(mode="fill", fill_value=0)
        .reshape(batch * frames, length, heads, width)
        for x in (keys.key, keys.value)
    )
    mask = jnp.broadcast_to(windows.mask, (batch, frames, length)).reshape(-1, length)
    out = attention(query, key, value, mask)
    out = out.reshape(batch, frames, tokens // frames, heads, width).swapaxes(1, 2)
    return out.reshape(batch, tokens, heads, width)


def add_term(
    total: Float[Array, "b l n k"], query: Float[Array, "b l n k"], keys: Keys, hearing: Hearing
) -> Float[Array, "b l n k"]:
    """Adds scale * attention over the keys of one block to the rows that hear the branch."""
    rows = keys.key.shape[0]
    out = attend(query[:rows], keys, hearing.windows)
    out = out * hearing.scale.astype(out.dtype)[:, None, None, None]
    heard = total[:rows] + out.astype(total.dtype)
    return heard if rows == total.shape[0] else jnp.concatenate([heard, total[rows:]])
