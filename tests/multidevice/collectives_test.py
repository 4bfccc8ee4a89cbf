"""Exchanges in programs compiled for eight simulated devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.core import meta
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ft_jax.nn.linear import Linear
from ft_jax.plan import collectives, hlo
from ft_jax.plan.chips import CHIPS
from ft_jax.sharding import mesh
from ft_jax.sharding.constrain import partitioned, shardings

MESH = {"data": 2, "fsdp": 4}


def found(function, *arguments):
    """Collectives of a function whose arguments are (array, spec of the mesh)."""
    mesh = jax.make_mesh(tuple(MESH.values()), tuple(MESH), axis_types=(AxisType.Auto,) * 2)
    given = [
        jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
        for shape, spec in arguments
    ]
    with jax.set_mesh(mesh):
        compiled = jax.jit(function).lower(*given).compile()
    return collectives.find(hlo.parse(compiled.as_text() or ""), MESH)


def manual(function, out):
    """The function of one device's part of an array that is split over fsdp."""
    spec = PartitionSpec("fsdp")
    return lambda x: jax.shard_map(function, in_specs=spec, out_specs=out, check_vma=False)(x)


def test_a_sum_over_the_samples_is_an_all_reduce_over_their_axis():
    (one,) = found(lambda x: jnp.sum(x, axis=0), ((8, 16), ("data",)))
    assert (one.kind, one.axes, one.devices, one.runs) == ("all-reduce", "data", 2, 1)
    assert one.size == 16 * 4


def test_split_weights_are_gathered_along_their_axis_in_every_turn_of_a_loop():
    def body(x, part):
        whole = jax.lax.with_sharding_constraint(part, PartitionSpec())
        return jnp.tanh(x @ whole), None

    def looped(x, w):
        return jax.lax.scan(body, x, w)[0]

    every = found(looped, ((8, 16), ("data",)), ((3, 16, 16), (None, "fsdp")))
    gathers = [one for one in every if one.kind == "all-gather"]
    assert gathers and {one.axes for one in gathers} == {"fsdp"}
    assert sum(one.runs * one.size for one in gathers) == 3 * 16 * 16 * 4


def test_exchanges_of_one_channel_outside_of_fusions_are_all_counted():
    def turn(x):
        for _ in range(2):
            x = jnp.tanh(jax.lax.all_to_all(x, "fsdp", 1, 0, tiled=True))
            x = jnp.tanh(jax.lax.all_to_all(x, "fsdp", 0, 1, tiled=True))
        return x

    every = found(manual(turn, PartitionSpec("fsdp")), ((8, 16), ("fsdp",)))
    assert [one.kind for one in every] == ["all-to-all"] * 4
    assert {one.axes for one in every} == {"fsdp"} and {one.devices for one in every} == {4}


NAMED = "replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}"
TURNED = "replica_groups=mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}"
IOTA = "replica_groups=[4,2]<=[2,4]T(1,0)"
PAIRS = "source_target_pairs={{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}"


@pytest.mark.parametrize(
    ("groups", "axes"),
    [(NAMED, "fsdp"), (TURNED, "fsdp"), (IOTA, "data"), (PAIRS, "fsdp"), ("", "data+fsdp")],
)
def test_groups_are_understood_in_every_way_of_writing(groups, axes):
    text = f"""
ENTRY %main (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0}} parameter(0)
  %s = (f32[8]{{0}}, f32[32]{{0}}) all-gather-start(%p), channel_id=3, {groups}
  ROOT %d = f32[32]{{0}} all-gather-done(%s)
}}
"""
    (one,) = collectives.find(hlo.parse(text), MESH)
    assert (one.axes, one.size, one.overlaps) == (axes, 128, True)


FUSIONS = """%first (p: f32[8]) -> f32[32] {
  %p = f32[8]{0} parameter(0)
  ROOT %g = f32[32]{0} all-gather(%p), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}
}
%async_collective_fusion.1 (p: f32[8]) -> f32[32] {
  %p = f32[8]{0} parameter(0)
  ROOT %g = f32[32]{0} all-gather(%p), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}
}
ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %async-collective-start.1 = f32[32]{0} fusion(%p), kind=kCustom, calls=%first
  %fusion.1 = f32[32]{0} fusion(%p), calls=%CALLED
}
"""


@pytest.mark.parametrize(("called", "overlaps"), [("async_collective_fusion.1", True),
                                                  ("first", False)])  # fmt: skip
def test_what_is_spread_over_fusions_is_one_exchange_that_a_product_may_hide(called, overlaps):
    (one,) = collectives.find(hlo.parse(FUSIONS.replace("CALLED", called)), MESH)
    assert one.overlaps == overlaps and one.axes == "fsdp"


def test_time_on_the_wire_follows_the_rings():
    chip = CHIPS["v5e"]

    def seconds(kind: str) -> float:
        made = collectives.Collective(kind, "fsdp", 90e9, 4, 2, False, "")
        return collectives.seconds(made, chip)

    assert seconds("all-gather") == pytest.approx(2 * 0.75)  # two directions of 45 GB/s
    assert seconds("all-reduce") == pytest.approx(2 * 2 * 0.75)
    assert seconds("all-to-all") == pytest.approx(2 * 1.0)
    assert seconds("collective-permute") == pytest.approx(2 * 2.0)  # one direction


def test_layers_gather_their_weights_and_send_no_activations():
    """Although these are smaller, two tokens a sample, and the compiler would rather move them."""
    first = Linear(256, 256, axes=("context_embed", "embed"), use_bias=False)
    layers = nn.Sequential([first, Linear(256, 256, axes=("embed", "mlp"), use_bias=False)])
    abstract = jax.eval_shape(layers.init, jax.random.key(0), jnp.ones((8, 2, 256)))
    made = mesh.make(mesh.Config(data=1, fsdp=4, context=2))
    placed = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        meta.unbox(abstract),
        shardings(abstract, made, "fsdp"),
    )
    samples = NamedSharding(made, PartitionSpec(("data", "fsdp")))
    x = jax.ShapeDtypeStruct((8, 2, 256), jnp.float32, sharding=samples)
    with partitioned(made, "fsdp"):
        compiled = jax.jit(layers.apply).lower(placed, x).compile()
    every = collectives.find(hlo.parse(compiled.as_text() or ""), dict(made.shape))
    found = {(one.kind, one.axes, one.runs * one.size) for one in every}
    assert found == {("all-gather", "fsdp", 256 * 256 * 4)} and len(every) == 2
