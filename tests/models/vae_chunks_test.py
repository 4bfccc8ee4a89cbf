"""A clip in parts of its time equals the whole clip, in memory that does not grow with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.models import vae

CFG = vae.Config(
    width=4, blocks=1, channels=3, multipliers=(1, 2, 2), time=(True, True),
    mean=(0.1, -0.2, 0.3), std=(2.0, 1.0, 0.5),
)  # fmt: skip
FRAME = {"encode": (4, (8, 12, 3)), "decode": (1, (2, 3, 3))}  # frames a latent frame, one of them
# Parts that do not divide the clip, of single latent frames, and longer than the clip.
LENGTHS_AND_CHUNKS = ((8, 3), (3, 1), (2, 5))


@functools.cache
def params():
    return jax.jit(vae.init, static_argnums=1)(jax.random.key(0), CFG)


@functools.cache
def run(method):
    return jax.jit(getattr(vae, method), static_argnums=(1, 3))


def shape_of(method, latents, side=1):
    frames, (rows, columns, channels) = FRAME[method]
    return (1, 1 + frames * (latents - 1), rows * side, columns * side, channels)


@pytest.mark.parametrize("method", ["encode", "decode"])
@pytest.mark.parametrize(("latents", "chunk"), LENGTHS_AND_CHUNKS)
def test_parts_of_any_length_give_what_the_whole_clip_gives(method, latents, chunk):
    x = jax.random.uniform(jax.random.key(1), shape_of(method, latents), minval=-1.0)
    # The longest clip alone is evaluated whole: what comes first sees nothing of what comes later.
    longest = jnp.pad(x, ((0, 0), (0, shape_of(method, 8)[1] - x.shape[1]), *((0, 0),) * 3))
    whole = run(method)(params(), CFG, longest, vae.WHOLE)
    found = run(method)(params(), CFG, x, vae.Pieces(chunk=chunk))
    assert found.shape == jax.eval_shape(lambda x: getattr(vae, method)(params(), CFG, x), x).shape
    np.testing.assert_allclose(found, whole[:, : found.shape[1]], atol=1e-5)


@pytest.mark.parametrize("method", ["encode", "decode"])
def test_memory_does_not_grow_with_the_clip(method):
    def temporary(latents, chunk):
        x = jax.ShapeDtypeStruct(shape_of(method, latents, side=4), jnp.float32)
        lowered = run(method).lower(params(), CFG, x, vae.Pieces(chunk=chunk))
        analysis = lowered.compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    # Two thousandths for each latent frame: the latents themselves, on their way to their scale.
    assert temporary(33, 2) <= 1.06 * temporary(5, 2)
    assert temporary(5, 0) > temporary(33, 2)  # as the parts are shorter than five frames


def test_gradients_pass_through_the_parts():
    cfg = vae.Config(
        width=2, blocks=1, channels=1, multipliers=(1, 1), time=(True,), mean=(0.0,), std=(1.0,)
    )
    params = jax.jit(vae.init, static_argnums=1)(jax.random.key(0), cfg)
    latents = jax.random.normal(jax.random.key(1), (1, 3, 2, 2, 1))

    def loss(latents, params, chunk):
        return (vae.decode(params, cfg, latents, vae.Pieces(chunk=chunk)) ** 2).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=2)
    found, expected = (gradient(latents, params, chunk) for chunk in (1, 0))
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(abs(expected).max()))


def test_negative_lengths_of_parts_are_refused():
    with pytest.raises(UsageError, match="chunk: got -1"):
        vae.Pieces(chunk=-1)
