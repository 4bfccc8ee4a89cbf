"""Normalisations against their PyTorch namesakes and their own definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from ft_jax.nn.norm import ChannelNorm, GroupNorm, LayerNorm, RMSNorm


def _with_random_parameters(module, x):
    variables = jax.tree.map(lambda p: p, module.init(jax.random.key(0), x))
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), max(len(leaves), 1))
    return tree.unflatten(
        [jax.random.normal(k, p.shape) for k, p in zip(keys, leaves, strict=False)]
    )


def _unboxed(variables, name):
    return torch.tensor(np.asarray(variables["params"][name].value))


def test_layer_norm_equals_torch():
    x = jax.random.normal(jax.random.key(2), (3, 5, 8)) * 3 + 1
    module = LayerNorm(8, eps=1e-5)
    variables = _with_random_parameters(module, x)
    expected = torch.nn.functional.layer_norm(
        torch.tensor(np.asarray(x)),
        (8,),
        _unboxed(variables, "scale"),
        _unboxed(variables, "bias"),
        1e-5,
    )
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=2e-6)


def test_rms_norm_equals_torch():
    x = jax.random.normal(jax.random.key(2), (3, 5, 8)) * 3 + 1
    module = RMSNorm(8)
    variables = _with_random_parameters(module, x)
    scale = _unboxed(variables, "scale")
    expected = torch.nn.functional.rms_norm(torch.tensor(np.asarray(x)), (8,), scale, 1e-6)
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=2e-6)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_equals_torch(groups):
    x = jax.random.normal(jax.random.key(2), (3, 5, 8)) * 3 + 1
    module = GroupNorm(8, groups)
    variables = _with_random_parameters(module, x)
    expected = torch.nn.functional.group_norm(
        torch.tensor(np.asarray(x)).movedim(-1, 1),
        groups,
        _unboxed(variables, "scale"),
        _unboxed(variables, "bias"),
    ).movedim(1, -1)
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=2e-6)


def test_channel_norm_gives_every_position_the_length_of_its_scale():
    x = jax.random.normal(jax.random.key(2), (2, 3, 4, 6))
    module = ChannelNorm(6)
    y = module.apply(module.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(jnp.linalg.norm(y, axis=-1), np.sqrt(6), rtol=1e-5)


def test_channel_norm_has_a_finite_gradient_at_zero():
    module, x = ChannelNorm(4), jnp.zeros((1, 2, 4))
    variables = module.init(jax.random.key(0), x)
    assert np.isfinite(jax.grad(lambda x: module.apply(variables, x).sum())(x)).all()


def test_statistics_are_float32_for_half_precision_input():
    x = (jax.random.normal(jax.random.key(4), (4, 512)) + 100).astype(jnp.bfloat16)
    module = LayerNorm(512, affine=False)
    half, full = module.apply({}, x), module.apply({}, x.astype(jnp.float32))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, full.astype(jnp.bfloat16))
