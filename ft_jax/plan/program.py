"""The training step of a run on abstract arrays: traced, lowered, compiled, never executed.

It is the very program that the loop compiles (ft_jax/training/program.py), with its optimizer, its
shardings and the compiler options of the devices it is for.

Tests: tests/plan/program_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ft_jax.checkpoints.tree import unflatten
from ft_jax.errors import UsageError
from ft_jax.models import wav2vec2
from ft_jax.models.system import System
from ft_jax.plan import flops
from ft_jax.sharding.constrain import partitioned
from ft_jax.training import compiler, origin, program
from ft_jax.training.loop import Config
from ft_jax.training.stages import Stage

Shapes = Mapping[str, tuple[tuple[int, ...], Any]]


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step before it is compiled.

    Attributes:
      mesh: Devices it is for.
      rules: Table that its arrays are placed by.
      jitted: The function.
      arguments: Abstract (state, frozen, batch) with shardings.
    """

    mesh: Mesh
    rules: str
    jitted: Any
    arguments: tuple[Any, ...]

    @property
    def platform(self) -> str:
        """Of its devices: cpu, tpu, cuda."""
        platform = self.mesh.devices.flat[0].platform
        return "cuda" if platform == "gpu" else platform

    @property
    def options(self) -> dict[str, Any]:
        """What its devices are to be compiled with."""
        return compiler.step_options(self.mesh.devices.flat[0])

    def trace(self) -> Any:
        """The step as JAX sees it."""
        with partitioned(self.mesh, self.rules):
            return self.jitted.trace(*self.arguments)

    def lower(self, traced: Any) -> Any:
        """The step as XLA is given it."""
        with partitioned(self.mesh, self.rules):
            return traced.lower(lowering_platforms=(self.platform,))

    def compile(self, lowered: Any) -> Any:
        """What the devices would run."""
        with partitioned(self.mesh, self.rules):
            return lowered.compile(self.options)

    def executed(self, traced: Any) -> flops.Flops:
        """Matrix products of a step, over all devices."""
        return flops.count(traced.jaxpr.jaxpr, self.platform)


def step(run: Config, stage: Stage, shapes: Shapes, mesh: Mesh) -> Step:
    """The step of `run` on a mesh, for batches of `shapes`.

    Raises:
      UsageError: The samples do not go round, or a setting does not fit.
    """
    planned = origin.plan(stage, run.optim, run.num_steps, mesh, run.mesh.rules)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    samples = next(iter(shapes.values()))[0][0]
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * run.optim.accumulate
    if samples % ways:
        raise UsageError(f"data.batch_size: {samples}; expected a multiple of {ways} (mesh)")
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for name, (shape, dtype) in shapes.items()
    }
    frozen = origin.kept(planned, run.frozen_dtype)
    jitted = program.update(stage, planned, run.optim, run.seed)
    arguments = (planned.state, unflatten(frozen), batch)
    return Step(mesh, run.mesh.rules, jitted, arguments)


def useful(made: Step, stage: Stage) -> float:
    """Operations that the step cannot do without, over all devices."""
    state, frozen, batch = made.arguments
    with partitioned(made.mesh, made.rules):
        return program.useful(stage, state.params, frozen, batch)


def record(system: System, fields: tuple[str, ...], samples: int) -> Shapes:
    """Shapes and types of a batch of records (data_pipeline/schema.py), as the step is given them.

    Raises:
      UsageError: A field that only batches of pixels have.
    """
    t, h, w, c = system.latent_shape
    tokens = wav2vec2.feature_length(round(system.frames / system.fps * 16_000))
    dit, half = system.denoiser.dit, jnp.bfloat16
    rows: Shapes = {
        "video_latents": ((t, h, w, c), half),
        "condition_latents": ((t, h, w, c), half),
        "image_tokens": ((system.image.tokens, system.image.width), half),
        "text_tokens": ((dit.text_tokens, dit.text_width), half),
        "lip_mask": ((t, h, w), jnp.uint8),
        "audio_features": ((tokens, system.speech.width), half),
        "identity": ((system.face.width,), jnp.float32),
        "expression": ((), jnp.float32),
        "body": ((), jnp.float32),
    }
    if unknown := set(fields) - set(rows):
        raise UsageError(f"config.stage: reads {min(unknown)}; expected base, clip or frame")
    return {name: ((samples, *rows[name][0]), rows[name][1]) for name in fields}
