"""The denoising loop: conditions and noise in, clean latents out.

Steps along the guided velocity, from pure noise to sigma 0, as one `lax.scan` over the rows of a
solver (Euler, as published, or UniPC, which needs fewer steps). What does not depend on the noise
level (keys and values of speech, identity, text and picture in every block) is computed once,
before the loop.

The rows of a batch are clips of their own, or windows of one long clip. Windows overlap: latent
frames of several rows that have the same number in `ids` are the same frame of the clip. Their
velocities are averaged, with `weights`, in every step, so that copies never part.

Shapes (letters: ft_jax/typing.py)
  noise       [b t h w c]    float32; copies of a frame hold the same noise
  ids         [b t]          which frame of the clip each latent frame is; None: all apart
  weights     [b t]          how much each copy counts; need not sum to 1
  returns     [b t h w c]    normalised latents

Invariants: the result of a row does not depend on the other rows (unless they share frames), nor on
how many steps are taken per call; equal requests reuse the compiled loop.

Source: FantasyTalking sec. 3.5, infer.py of the release (30 Euler steps, shift 5).
Tests: tests/sampling/sampler_test.py.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ft_jax.diffusion import flow, solvers
from ft_jax.diffusion.guidance import Config as Guidance
from ft_jax.diffusion.guidance import combine_stacked
from ft_jax.errors import UsageError
from ft_jax.models import fantasy
from ft_jax.models.term import AudioWindows
from ft_jax.typing import Params

Progress = Callable[[int, int], None]
SOLVERS = {"euler": solvers.euler, "unipc": solvers.unipc}
START = {"euler": 1.0, "unipc": 0.999}  # first level before the shift, as each is published


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the loop."""

    guidance: Guidance = dataclasses.field(default_factory=Guidance)
    solver: str = "euler"  # a key of SOLVERS
    steps: int = 30
    shift: float = 5.0  # of the noise levels, towards noise
    rows_at_once: int = 8  # larger batches go through the network in parts of this size

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rows_at_once", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: got {getattr(self, name)}; expected at least {least}")
        if self.solver not in SOLVERS:
            raise UsageError(f"solver: got {self.solver!r}; expected one of {sorted(SOLVERS)}")
        if not 1.0 <= self.shift <= 100.0:
            raise UsageError(f"shift: got {self.shift}; expected 1 to 100")


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Which latent frames of a batch are the same frame of one clip; see the head of this file."""

    ids: Int[np.ndarray, "b t"]
    weights: Float[np.ndarray, "b t"]


@dataclasses.dataclass(frozen=True)
class Request:
    """One batch to make; see the head of this file for shapes.

    Attributes:
      noise: Where to start.
      conditions: One row a row of `noise`.
      negative_text: Text of the unconditional branch; not read where text guidance is 1.
      windows: Audio tokens of each latent frame; None: clip mode.
      overlap: For windows of one clip.
    """

    noise: Float[Array | np.ndarray, "b t h w c"]
    conditions: fantasy.Conditions
    negative_text: Float[Array | np.ndarray, "b s cs"]
    windows: AudioWindows | None = None
    overlap: Overlap | None = None


def sample(
    params: Params,
    model: fantasy.Config,
    cfg: Config,
    request: Request,
    progress: Progress | None = None,
) -> Float[Array, "b t h w c"]:
    """Runs the loop.

    Args:
      params: Of the denoiser.
      model: Its configuration.
      cfg: Settings of the loop.
      request: What to make.
      progress: Called with (steps done, steps in all) after every step; without it all steps are
        one call to the device.
    """
    rows = request.noise.shape[0]
    parts = -(-rows // cfg.rows_at_once)
    filled = _fill(request, parts * -(-rows // parts))
    given = (filled.conditions, filled.negative_text)
    prepared = [
        _prepare(params, model, cfg.guidance, *part, request.windows)
        for part in _split(given, parts)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *prepared)
    overlap = None
    if filled.overlap is not None:
        overlap = (
            jnp.asarray(filled.overlap.ids),
            jnp.asarray(filled.overlap.weights, jnp.float32),
        )
    solver = SOLVERS[cfg.solver](flow.sigma_table(cfg.steps, cfg.shift, START[cfg.solver]))
    static = _Static(model, cfg.guidance, solver.step)
    state = solver.start(jnp.array(filled.noise, jnp.float32))
    stride = cfg.steps if progress is None else 1
    for start in range(0, cfg.steps, stride):
        now = jnp.asarray(solver.rows[start : start + stride])
        state = _steps(params, static, state, now, stacked, overlap)
        if progress is not None:
            state.sample.block_until_ready()
            progress(start + stride, cfg.steps)
    return state.sample[:rows]


@dataclasses.dataclass(frozen=True)
class _Static:
    """What a compiled loop is made for, besides shapes."""

    model: fantasy.Config
    guidance: Guidance
    step: Callable[[solvers.State, jax.Array, jax.Array], solvers.State]


@functools.partial(jax.jit, static_argnames=("model", "cfg"))
def _prepare(
    params: Params,
    model: fantasy.Config,
    cfg: Guidance,
    conditions: fantasy.Conditions,
    negative_text: jax.Array,
    windows: AudioWindows | None,
) -> fantasy.Prepared:
    if cfg.branches > 1:
        negative = negative_text if cfg.branches == 3 else None
        silence = model.audio.silence if model.audio else "muted"
        conditions = fantasy.for_guidance(conditions, negative, cfg.identity, cfg.motion, silence)
    return fantasy.prepare(params, model, conditions, windows)


@functools.partial(jax.jit, static_argnames=("static",))
def _steps(
    params: Params,
    static: _Static,
    state: solvers.State,
    rows: jax.Array,
    prepared: fantasy.Prepared,
    overlap: tuple[jax.Array, jax.Array] | None,
) -> solvers.State:
    """Some steps in a row.

    Args:
      params: Of the denoiser.
      static: Model, guidance and solver.
      state: All rows of the batch, as the solver keeps them.
      rows: Of the solver, one a step; the first number is the noise level.
      prepared: Conditions, with a leading axis of parts of the batch.
      overlap: Ids and weights, or None.
    """
    branches = static.guidance.branches

    def velocity(part: jax.Array, sigma: jax.Array, known: fantasy.Prepared) -> jax.Array:
        copies = jnp.concatenate([part] * branches)
        sigmas = jnp.full(copies.shape[0], sigma)
        made = fantasy.denoise(params, static.model, copies, sigmas, known)
        return combine_stacked(made, static.guidance)

    def step(state: solvers.State, row: jax.Array) -> tuple[solvers.State, None]:
        shape = state.sample.shape
        parts = jax.tree.leaves(prepared)[0].shape[0]
        split = state.sample.reshape(parts, -1, *shape[1:])
        # A map over parts, not one large batch: memory stays that of one part.
        made = jax.lax.map(lambda each: velocity(each[0], row[0], each[1]), (split, prepared))
        change = made.reshape(shape)
        if overlap is not None:
            change = _agree(change, *overlap)
        return static.step(state, change, row), None

    return jax.lax.scan(step, state, rows)[0]


def _agree(velocity: jax.Array, ids: jax.Array, weights: jax.Array) -> jax.Array:
    """The weighted mean over all copies of each frame, given back to every copy."""
    frames = velocity.reshape(-1, *velocity.shape[2:])
    flat, weight = ids.reshape(-1), weights.reshape(-1)
    # As many sums as there are copies: enough for any numbering, and a static shape.
    total = jnp.zeros_like(frames).at[flat].add(frames * weight[:, None, None, None])
    sums = jnp.zeros_like(weight).at[flat].add(weight)
    mean = total / jnp.maximum(sums, 1e-6)[:, None, None, None]
    return mean[flat].reshape(velocity.shape)


def _fill(request: Request, rows: int) -> Request:
    """Repeats the last row up to `rows`; copies of it have frames of their own."""
    given = request.noise.shape[0]
    if rows == given:
        return request
    order = np.minimum(np.arange(rows), given - 1)
    arrays = (request.noise, request.conditions, request.negative_text)
    noise, conditions, negative = jax.tree.map(lambda leaf: jnp.asarray(leaf)[order], arrays)
    overlap = request.overlap
    if overlap is not None:
        more = rows - given, overlap.ids.shape[1]
        own = overlap.ids.max() + 1 + np.arange(more[0] * more[1]).reshape(more)
        overlap = Overlap(
            np.concatenate([overlap.ids, own.astype(overlap.ids.dtype)]),
            np.concatenate([overlap.weights, np.ones(more, overlap.weights.dtype)]),
        )
    return dataclasses.replace(
        request, noise=noise, conditions=conditions, negative_text=negative, overlap=overlap
    )


def _split(tree: Any, parts: int) -> list[Any]:
    """Cuts every leaf of a tree along its first axis into `parts` equal parts."""
    leaves, structure = jax.tree.flatten(tree)
    cut = [jnp.split(jnp.asarray(leaf), parts) for leaf in leaves]
    return [structure.unflatten(part) for part in zip(*cut, strict=True)]
