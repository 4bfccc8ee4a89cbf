"""The autoencoder's rules of time, its shapes and its scale."""

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
VIDEO = jax.random.uniform(jax.random.key(1), (1, 9, 8, 12, 3), minval=-1.0)


@functools.cache
def params():
    return jax.jit(vae.init, static_argnums=1)(jax.random.key(0), CFG)


@functools.cache
def distribution():
    return jax.jit(vae.encode_distribution, static_argnums=1)


def latents_of(video):
    return vae.normalise(CFG, distribution()(params(), CFG, video)[0])


def test_time_shrinks_by_four_and_space_by_the_levels():
    latents = latents_of(VIDEO)
    assert latents.shape == (1, 3, 2, 3, 3)
    made = jax.eval_shape(lambda tree: vae.decode(tree, CFG, latents), params())
    assert made.shape == VIDEO.shape


def test_a_latent_frame_sees_its_four_frames_and_the_past_only():
    changed = VIDEO.at[:, 5].add(0.5)  # the first frame of latent frame 2
    before, after = latents_of(VIDEO), latents_of(changed)
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert not np.allclose(before[:, 2], after[:, 2])


def test_the_first_frame_alone_encodes_to_the_first_latent_frame():
    np.testing.assert_allclose(latents_of(VIDEO[:, :1]), latents_of(VIDEO)[:, :1], atol=1e-5)


def test_a_decoded_frame_sees_no_later_latent_frame():
    decode = jax.jit(vae.decode, static_argnums=1)
    latents = latents_of(VIDEO)
    before, after = (decode(params(), CFG, x) for x in (latents, latents.at[:, 2].add(1.0)))
    np.testing.assert_array_equal(before[:, :5], after[:, :5])
    assert not np.allclose(before[:, 5:], after[:, 5:])


def test_encoding_is_the_normalised_mean_of_the_distribution():
    video = VIDEO[:, :1]
    mean, logvar = distribution()(params(), CFG, video)
    scaled = (np.asarray(mean) - np.asarray(CFG.mean)) / np.asarray(CFG.std)
    encoded = jax.jit(vae.encode, static_argnums=1)(params(), CFG, video)
    np.testing.assert_allclose(encoded, scaled, atol=1e-6)
    np.testing.assert_allclose(vae.denormalise(CFG, encoded), mean, atol=1e-6)
    assert mean.shape == logvar.shape


@pytest.mark.parametrize("shape", [(1, 8, 8, 8, 3), (1, 9, 10, 8, 3)])
def test_a_clip_that_does_not_divide_is_refused(shape):
    with pytest.raises(UsageError, match=r"video: .* expected 4n \+ 1 frames"):
        vae.encode(params(), CFG, jnp.zeros(shape))
