"""Rotary positions: token order, lane split, and what rotation must leave alone."""

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.nn import rope
from ft_jax.nn.rope import apply_rope, rope_table


def test_released_head_width_splits_into_44_42_42_lanes():
    cos, sin = rope_table(3, 4, 5, 128)
    assert cos.shape == sin.shape == (60, 128)
    np.testing.assert_array_equal(cos[:, ::2], cos[:, 1::2])
    np.testing.assert_array_equal(sin[:, ::2], -sin[:, 1::2])
    angle = np.arctan2(sin, cos)[:, 1::2].reshape(4, 5, 3, 64)
    np.testing.assert_allclose(angle[0, 0, 2, :22], angle[3, 4, 2, :22])
    np.testing.assert_allclose(angle[2, 0, 0, 22:43], angle[2, 4, 2, 22:43])
    np.testing.assert_allclose(angle[0, 3, 0, 43:], angle[3, 3, 2, 43:])
    np.testing.assert_allclose(angle[2, 3, 1, [0, 22, 43]], [1, 2, 3], rtol=1e-6)


def test_scores_depend_on_distance_only():
    q, k = jax.random.normal(jax.random.key(0), (2, 1, 1, 1, 12))
    table = rope_table(4, 3, 3, 12)
    rotated_q = apply_rope(jnp.tile(q, (1, 36, 1, 1)), table)[0, :, 0]
    rotated_k = apply_rope(jnp.tile(k, (1, 36, 1, 1)), table)[0, :, 0]
    scores = (rotated_q @ rotated_k.T).reshape(3, 3, 4, 3, 3, 4)
    np.testing.assert_allclose(scores[0, 1, 2, 1, 2, 3], scores[1, 0, 0, 2, 1, 1], atol=1e-5)
    assert abs(scores[0, 1, 2, 1, 2, 3] - scores[0, 1, 3, 1, 2, 2]) > 1e-4


def test_rotation_keeps_lengths():
    x = jax.random.normal(jax.random.key(3), (2, 12, 3, 16))
    rotated = apply_rope(x, rope_table(3, 2, 2, 16))
    np.testing.assert_allclose(
        jnp.linalg.norm(rotated, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )


def test_the_gradient_is_that_of_the_written_rotation_on_every_platform():
    """In bfloat16 and float32; one of the forms runs on TPUs only, but means the same."""
    table = rope_table(3, 2, 2, 16)
    x, weight = jax.random.normal(jax.random.key(4), (2, 2, 12, 3, 16))

    def written(x):
        pairs = x.reshape(2, 12, 3, 8, 2)
        cos, sin = (part[None, :, None, 1::2] for part in table)
        first = pairs[..., 0] * cos - pairs[..., 1] * sin
        second = pairs[..., 1] * cos + pairs[..., 0] * sin
        return jnp.stack([first, second], axis=-1).reshape(x.shape)

    def gradient(rotate):
        return jax.grad(lambda x: jnp.vdot(rotate(x), weight))(x)

    np.testing.assert_allclose(apply_rope(x, table), written(x), rtol=1e-6, atol=1e-7)
    found = gradient(lambda x: apply_rope(x, table))
    np.testing.assert_allclose(found, gradient(written), rtol=1e-6, atol=1e-7)
    for each in (x, x.astype(jnp.bfloat16)):
        np.testing.assert_array_equal(rope.exchange_lanes(each), rope._by_reversal(each))
