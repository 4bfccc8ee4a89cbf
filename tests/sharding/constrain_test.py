"""A misspelt logical axis raises; outside a mesh a constraint is the identity."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from ft_jax.errors import UsageError
from ft_jax.nn.conv import Conv
from ft_jax.nn.linear import Linear
from ft_jax.sharding import mesh
from ft_jax.sharding.constrain import constrain, partitioned, shardings


def test_unknown_activation_axis_raises_even_outside_a_mesh():
    with pytest.raises(ValueError, match="act_sequence"):
        constrain(jnp.ones((2, 2)), "act_batch", "act_sequence")


def test_unknown_parameter_axis_raises():
    boxed = nn.LogicallyPartitioned(jnp.ones((2, 3)), ("embed", "hedas"))
    with pytest.raises(ValueError, match="hedas"):
        shardings({"kernel": boxed}, mesh.make(mesh.Config()), "fsdp")
    with pytest.raises(ValueError, match="hedas"):
        jax.eval_shape(Linear(2, 3, axes=("embed", "hedas")).init, jax.random.key(0), jnp.ones(2))


def test_constraint_reaches_the_lowered_program():
    made = mesh.make(mesh.Config())
    with partitioned(made, "fsdp"):
        lowered = jax.jit(lambda x: constrain(x, "act_batch", "act_embed")).lower(jnp.ones((2, 2)))
    assert 'sharding_constraint %arg0 <@mesh, [{"data", "fsdp"}, {}]>' in lowered.as_text()
    assert not nn.get_logical_axis_rules()


def test_unknown_table_is_refused():
    with (
        pytest.raises(UsageError, match="fsdp_tp"),
        partitioned(mesh.make(mesh.Config()), "fsdp_tp"),
    ):
        pass


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (3, 3, 3)])
def test_convolutions_have_a_place_on_the_mesh(kernel):
    conv = Conv(4, 8, kernel=kernel, padding="SAME")
    x = jnp.zeros((1, *(4,) * len(kernel), 4))
    abstract = jax.eval_shape(lambda: conv.init(jax.random.key(0), x)["params"])
    where = shardings(abstract, mesh.make(mesh.Config()), "fsdp")
    taps = (None,) * len(kernel)
    assert jax.tree.leaves(where["kernel"])[0].spec == PartitionSpec(*taps, None, "fsdp")
