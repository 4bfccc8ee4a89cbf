"""The step that is looked at is the step that is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from configs import stage1_clip
from ft_jax.cli import train
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.models.system import System
from ft_jax.nn import quantised
from ft_jax.plan import program
from ft_jax.sharding import mesh as meshes
from ft_jax.training import origin


@pytest.fixture(scope="module")
def parts():
    settings = stage1_clip.get_config("tiny")
    settings.frozen_dtype = "bfloat16"
    run, stage, data = train.prepare(settings.to_dict())
    system = build(System, settings.to_dict()["model"], "config.model")
    shapes = program.record(system, stage.reads.fields, data.batch_size)
    return run, stage, shapes, meshes.make(run.mesh, jax.devices()[:1])


def test_a_step_has_the_types_and_shardings_that_the_loop_gives_it(parts):
    run, stage, shapes, mesh = parts
    made = program.step(run, stage, shapes, mesh)
    state, frozen, batch = made.arguments
    assert set(batch) == set(stage.reads.fields)
    assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.float32)}
    assert all(leaf.sharding.mesh == mesh for leaf in jax.tree.leaves(made.arguments))
    assert made.platform == "cpu"


def test_samples_that_do_not_go_round_are_named(parts):
    run, stage, shapes, mesh = parts
    odd = {name: ((3, *shape[1:]), dtype) for name, (shape, dtype) in shapes.items()}
    run = dataclasses.replace(run, optim=dataclasses.replace(run.optim, accumulate=2))
    with pytest.raises(UsageError, match=r"data\.batch_size: 3"):
        program.step(run, stage, odd, mesh)


def test_a_stage_that_reads_pixels_is_refused(parts):
    settings = stage1_clip.get_config("tiny")
    system = build(System, settings.to_dict()["model"], "config.model")
    with pytest.raises(UsageError, match="reads frames"):
        program.record(system, ("frames",), 2)


def test_eight_bits_halve_the_base_of_14b():
    run, stage, _ = train.prepare(stage1_clip.get_config("wan_14b").to_dict())
    mesh = meshes.make(run.mesh, jax.devices()[:1])
    planned = origin.plan(stage, run.optim, run.num_steps, mesh, run.mesh.rules)

    def size(dtype):
        leaves = jax.tree.leaves(origin.kept(planned, dtype))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    assert size("bfloat16") == 2 * 16_394_878_784
    blocks, channels = 40, 10 * 5120 + 13_824 + 5120  # ten square matrices, two of the MLP
    matrices = blocks * (10 * 5120**2 + 2 * 5120 * 13_824)
    assert size("bfloat16") - size("int8") == matrices - 4 * blocks * channels
    assert size("int8") < 16.7e9


def test_a_step_is_given_the_form_that_the_loop_gives_it(parts):
    run, stage, shapes, mesh = parts
    eight = dataclasses.replace(run, frozen_dtype="int8")
    _, frozen, _ = program.step(eight, stage, shapes, mesh).arguments
    kernel = frozen["denoiser"]["dit"]["blocks"]["mlp"]["hidden"]["kernel"]
    assert quantised.is_quantised(kernel) and kernel.qvalue.dtype == jnp.int8
    assert kernel.scale.sharding.mesh == mesh
