"""What the image encoder reads, and which of its parameters the denoiser's tokens need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.models import clip

CFG = clip.Config(pixels=16, patch=8, width=16, layers=2, heads=2, mlp_width=16, projection=6)


@functools.cache
def params():
    return jax.jit(clip.init, static_argnums=1)(jax.random.key(0), CFG)


def test_tokens_are_the_class_token_and_the_patches():
    pixels = jnp.zeros((2, 16, 16, 3))
    tokens = jax.eval_shape(lambda tree: clip.encode(tree, CFG, pixels), params())
    assert tokens.shape == (2, CFG.tokens, CFG.width) and CFG.tokens == 5


def test_tokens_do_not_need_the_end_of_the_tower():
    kept = {k: v for k, v in params().items() if k not in ("last", "post_norm", "projection")}
    pixels = jax.random.normal(jax.random.key(1), (1, 16, 16, 3))
    shipped = clip.Config(pixels=16, patch=8, width=16, layers=2, heads=2, mlp_width=16)
    made = jax.eval_shape(lambda key: clip.init(key, shipped), jax.random.key(0))
    assert made.keys() == kept.keys()
    encode = jax.jit(clip.encode, static_argnums=1)
    np.testing.assert_array_equal(encode(kept, shipped, pixels), encode(params(), CFG, pixels))


def test_pooled_vectors_have_unit_length():
    pixels = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    vectors = jax.jit(clip.pooled, static_argnums=1)(params(), CFG, pixels)
    assert vectors.shape == (2, 6)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 16), (16, 16), (300, 16), (1, 16)])
def test_the_resize_keeps_constants_and_at_equal_size_everything(inputs, outputs):
    matrix = clip.bicubic_matrix(inputs, outputs)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-5)
    if inputs == outputs:
        np.testing.assert_array_equal(matrix, np.eye(inputs))


def test_a_wide_picture_is_squashed_not_cropped():
    picture = jnp.zeros((1, 16, 48, 3)).at[:, :, :24].set(1.0)
    square = clip.preprocess(CFG, picture)
    assert square.shape == (1, 16, 16, 3)
    left, right = square[:, :, :7], square[:, :, 9:]
    assert left.min() > 1.5 and right.max() < 1.0
