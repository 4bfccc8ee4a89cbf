"""A clip through the autoencoder in parts of its time, so that memory does not grow with it.

The network is causal: what a part needs of the parts before it are a few frames in front of each
convolution over time, which the network keeps (vae.py, `remember`). The first part holds frame 0,
which has rules of its own, and what does not divide; equal parts follow in one `lax.scan` that
carries the kept frames and the clip as far as it is made. The result is the whole clip's.

Shapes (letters: ft_jax/typing.py): a clip [b f h w c] of 1 + n * frames frames.

Source: Wan2.1 vae.py keeps the same frames, in a Python loop over single latent frames.
Tests: tests/models/vae_chunks_test.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Step: TypeAlias = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Rates:
    """Frames of each latent frame but the first, going in and coming out."""

    given: int
    made: int


def in_chunks(
    step: Step, x: Float[Array, "b f h w c"], chunk: int, rates: Rates
) -> Float[Array, "b _ H W o"]:
    """Runs `step` over parts of `chunk` latent frames.

    Args:
      step: (what the part before left, or None; a part) -> (what is made of it, what it leaves).
      x: The clip.
      chunk: Latent frames of a part; at least 1.
      rates: Of `step`.
    """
    later = (x.shape[1] - 1) // rates.given  # latent frames after the first
    count, uneven = divmod(later, chunk)
    y, past = step(None, x[:, : 1 + uneven * rates.given])
    if count == 0:
        return y
    frames = 1 + later * rates.made
    made = jnp.zeros_like(y, shape=(y.shape[0], frames, *y.shape[2:])).at[:, : y.shape[1]].set(y)

    def part(carry: tuple[Any, jax.Array], number: jax.Array) -> tuple[Any, None]:
        past, made = carry
        start = uneven + number * chunk
        given = lax.dynamic_slice_in_dim(x, 1 + start * rates.given, chunk * rates.given, 1)
        y, past = step(past, given)
        return (past, lax.dynamic_update_slice_in_dim(made, y, 1 + start * rates.made, 1)), None

    return lax.scan(part, (past, made), jnp.arange(count))[0][1]
