"""Attention: PyTorch's numbers, masks that hold, and queries without any key."""

import jax
import jax.numpy as jnp
import numpy as np
import torch

from ft_jax.kernels import attention


def _qkv(seed=0, queries=7, keys=5):
    parts = jax.random.split(jax.random.key(seed), 3)
    shapes = [(2, queries, 3, 4), (2, keys, 3, 4), (2, keys, 3, 4)]
    return [jax.random.normal(k, s) for k, s in zip(parts, shapes, strict=True)]


def test_equals_torch_with_and_without_a_mask():
    q, k, v = _qkv()
    mask = np.array(jax.random.bernoulli(jax.random.key(9), 0.6, (2, 5)))
    mask[:, 0] = True
    as_torch = lambda x: torch.tensor(np.asarray(x)).transpose(1, 2)  # noqa: E731
    for keep in (None, mask):
        torch_mask = None if keep is None else torch.tensor(keep)[:, None, None, :]
        expected = torch.nn.functional.scaled_dot_product_attention(
            as_torch(q), as_torch(k), as_torch(v), torch_mask
        ).transpose(1, 2)
        np.testing.assert_allclose(
            attention(q, k, v, keep if keep is None else jnp.asarray(keep)), expected, atol=2e-6
        )


def test_masked_keys_have_no_influence():
    q, k, v = _qkv()
    mask = jnp.array([[True, True, False, True, False]] * 2)
    grads = jax.grad(lambda k, v: jnp.sin(attention(q, k, v, mask)).sum(), (0, 1))(k, v)
    for grad in grads:
        assert not np.asarray(grad)[:, [2, 4]].any()
        assert np.asarray(grad)[:, [0, 1, 3]].any()


def test_a_query_without_keys_gives_zero_and_finite_gradients():
    q, k, v = _qkv()
    mask = jnp.array([[False] * 5, [True] * 5])
    out, grads = jax.value_and_grad(
        lambda q, k, v: (attention(q, k, v, mask) ** 2)[0].sum(), (0, 1, 2)
    )(q, k, v)
    assert out == 0
    assert all(np.isfinite(grad).all() for grad in grads)


def test_a_mask_for_each_query_is_honoured():
    q, k, v = _qkv(queries=5)
    mask = jnp.eye(5, dtype=bool)[None, None].repeat(2, 0)
    np.testing.assert_allclose(attention(q, k, v, mask), v, atol=1e-6)
