"""The kernel for NVIDIA GPUs: what is put around cuDNN, and on a GPU the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.kernels import cudnn, reference


def _inputs(dtype=jnp.float32):
    draw = np.random.default_rng(0)
    shapes = [(3, length, 2, 16) for length in (30, 19, 19, 30)]
    q, k, v, grad = (jnp.asarray(draw.standard_normal(shape), dtype) for shape in shapes)
    mask = jnp.asarray(draw.random((3, 1, 1, 19)) < 0.6).at[0].set(False)
    return q, k, v, mask, grad


def _run(kernel, q, k, v, mask, grad):
    out, total = kernel.forward(q, k, v, mask, 0.3)
    return out, kernel.backward(q, k, v, mask, 0.3, (out, total), grad)


@pytest.mark.parametrize("is_masked", [False, True])
def test_masked_keys_behind_the_others_are_the_same_as_a_mask(is_masked, monkeypatch):
    """JAX's own attention takes lengths as cuDNN does, and runs anywhere."""
    xla = functools.partial(jax.nn.dot_product_attention)

    def instead(*arguments, implementation, **options):
        assert implementation == "cudnn"
        return xla(*arguments, **options, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", instead)
    q, k, v, mask, grad = _inputs()
    given = (q, k, v, mask if is_masked else None, grad)
    expected, found = (jax.jit(functools.partial(_run, x))(*given) for x in (reference, cudnn))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=3e-6), found, expected)


def test_without_cudnn_its_program_can_still_be_traced():
    q, k, v, mask, _ = _inputs(jnp.bfloat16)
    assert jax.eval_shape(lambda: cudnn.attention(q, k, v, mask, 0.3)).shape == q.shape


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs gpu")
@pytest.mark.parametrize("is_masked", [False, True])
def test_on_a_gpu_it_equals_the_reference(is_masked):
    q, k, v, mask, grad = _inputs(jnp.bfloat16)
    given = (q, k, v, mask if is_masked else None, grad)
    expected, found = (jax.jit(functools.partial(_run, x))(*given) for x in (reference, cudnn))
    as_floats = functools.partial(np.asarray, dtype=np.float32)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(as_floats(x), as_floats(y), atol=0.03),
        found,
        expected,
    )
