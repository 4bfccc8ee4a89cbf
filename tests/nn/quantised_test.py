"""Eight bits: how far off they may be, what is multiplied, what is kept, where it lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ft_jax.errors import UsageError
from ft_jax.nn import quantised
from ft_jax.nn.linear import Linear
from ft_jax.sharding import mesh

LAYERS, INPUTS, OUTPUTS = 3, 8, 16


def stack() -> jax.Array:
    """Matrices whose channels differ a thousandfold in size; one channel is zero."""
    draw = np.random.default_rng(0).standard_normal((LAYERS, INPUTS, OUTPUTS))
    sizes = np.logspace(-2, 1, LAYERS * OUTPUTS).reshape(LAYERS, 1, OUTPUTS)
    sizes[1, 0, 3] = 0
    return jnp.asarray(draw * sizes, jnp.float32)


def test_a_weight_is_off_by_at_most_half_a_step_of_its_channel():
    matrices = stack()
    made = quantised.quantise(matrices)
    assert made.qvalue.dtype == jnp.int8 and made.scale.shape == (LAYERS, 1, OUTPUTS)
    step = np.abs(matrices).max(axis=1, keepdims=True) / 127
    error = np.abs(quantised.whole(made, jnp.float32) - matrices)
    assert np.all(error <= 0.5001 * step)
    assert np.all(error.max(axis=1, keepdims=True)[step > 0] > 0.2 * step[step > 0])


def test_a_linear_map_takes_either_form_of_its_kernel():
    made = quantised.quantise(stack()[0])
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 5, INPUTS)), jnp.float32)
    layer, bias = Linear(INPUTS, OUTPUTS), jnp.arange(OUTPUTS, dtype=jnp.float32)
    changes = {"down": jnp.ones((INPUTS, 2)), "up": jnp.full((2, OUTPUTS), 0.1)}

    def through(x, kernel):
        return layer.apply({"params": {"kernel": kernel, "bias": bias}, "lora": changes}, x)

    expected, slope = jax.vjp(lambda x: through(x, quantised.whole(made, jnp.float32)), x)
    found, own_slope = jax.vjp(lambda x: through(x, made), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own_slope(found), slope(expected))


def test_the_backward_pass_is_handed_eight_bits_and_no_whole_matrix():
    """Of a stack of blocks it would be handed all of them."""
    made = quantised.quantise(jnp.ones((LAYERS, INPUTS, INPUTS)))
    x = jnp.ones((2, INPUTS), jnp.bfloat16)

    def run(x, matrices):
        return jax.lax.scan(lambda x, one: (jnp.sin(quantised.product(x, one)), None), x, matrices)

    _, backward = jax.eval_shape(lambda x: jax.vjp(lambda x: run(x, made)[0], x), x)
    kept = [leaf for leaf in jax.tree.leaves(backward) if leaf.shape == made.shape]
    assert [leaf.dtype for leaf in kept] == [jnp.int8]


def test_a_scale_lies_where_its_channel_does():
    made = mesh.make(mesh.Config(), jax.devices()[:1])
    where = NamedSharding(made, PartitionSpec(None, "fsdp", "tensor"))
    leaf = jax.ShapeDtypeStruct((LAYERS, INPUTS, OUTPUTS), jnp.bfloat16, sharding=where)
    found = quantised.abstract(leaf)
    assert (found.qvalue.shape, found.qvalue.dtype) == (leaf.shape, jnp.int8)
    assert found.qvalue.sharding == where
    assert (found.scale.shape, found.scale.dtype) == ((LAYERS, 1, OUTPUTS), jnp.float32)
    assert found.scale.sharding.spec == PartitionSpec(None, None, "tensor")


def test_a_matrix_of_one_row_keeps_its_scale_apart():
    made = mesh.make(mesh.Config(), jax.devices()[:1])
    where = NamedSharding(made, PartitionSpec(None, "fsdp"))
    found = quantised.abstract(jax.ShapeDtypeStruct((LAYERS, 1, 4), jnp.float32, sharding=where))
    assert found.qvalue.sharding == where
    assert found.scale.sharding.spec == PartitionSpec(None, None, None)


def test_the_library_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"qwix: not installed; .+ft_jax\[int8\]"):
        quantised.need_library()
