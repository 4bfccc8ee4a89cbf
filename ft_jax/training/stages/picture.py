"""Small changes of pictures that leave their meaning alone; drawn per sample from a key.

Pictures are float32 in -1..1 and stay there. Tests: tests/training/stages_test.py.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped, UInt8

from ft_jax.training import randomness


def to_float(pixels: UInt8[Array, "*b"]) -> Float[Array, "*b"]:
    """0..255 to -1..1."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


def some_frames(
    clips: Shaped[Array, "b f *c"], key: Key[Array, ""], count: int
) -> Shaped[Array, "b s *c"]:
    """`count` frames of each clip, chosen independently; the same key chooses the same ones."""
    shape = (clips.shape[0], count)
    index = jax.random.randint(randomness.draw(key, "frames"), shape, 0, clips.shape[1])
    index = index.reshape(*shape, *(1,) * (clips.ndim - 2))
    return jnp.take_along_axis(clips, index, axis=1)


def jitter(
    pictures: Float[Array, "b H W 3"], key: Key[Array, ""], colour: float, noise: float
) -> Float[Array, "b H W 3"]:
    """Brightness, contrast and each colour by up to `colour`, and noise of deviation `noise`."""
    samples = pictures.shape[0]
    keys = jax.random.split(randomness.draw(key, "augment"), 4)
    shape = (samples, 1, 1, 3)
    gain = 1.0 + colour * jax.random.uniform(keys[0], shape, minval=-1.0)
    offset = colour * jax.random.uniform(keys[1], shape, minval=-1.0)
    strength = noise * jax.random.uniform(keys[2], (samples, 1, 1, 1))
    grain = jax.random.normal(keys[3], pictures.shape)
    return jnp.clip(pictures * gain + offset + strength * grain, -1.0, 1.0)


def soften(pictures: Float[Array, "b H W 3"], key: Key[Array, ""]) -> Float[Array, "b H W 3"]:
    """A blur of random strength, from none to the mean of 3 x 3 neighbours."""
    sides = jnp.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (sides[:, :-2] + sides[:, 1:-1] + sides[:, 2:]) / 3.0
    blurred = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 3.0
    shape = (pictures.shape[0], 1, 1, 1)
    strength = jax.random.uniform(randomness.draw(key, "blur"), shape)
    return pictures + strength * (blurred - pictures)


def shift(
    pictures: Float[Array, "b H W 3"], key: Key[Array, ""], pixels: int
) -> Float[Array, "b H W 3"]:
    """Moves each picture by up to `pixels` along both axes; borders are repeated."""
    rows, columns = pictures.shape[1:3]
    moves = jax.random.randint(
        randomness.draw(key, "crop"), (pictures.shape[0], 2), 0, 2 * pixels + 1
    )
    margins = ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0))
    wide = jnp.pad(pictures, margins, mode="edge")

    def cut(picture: jax.Array, move: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(picture, (move[0], move[1], 0), (rows, columns, 3))

    return jax.vmap(cut)(wide, moves)
