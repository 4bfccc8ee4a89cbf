"""The denoising loop: conditions and noise in, clean latents out.

Euler steps along the guided velocity, from pure noise to sigma 0, as one `lax.scan` over the table
of noise levels. What does not depend on the noise level (keys and values of speech, identity, text
and picture in every block) is computed once, before the loop.

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

from ft_jax.diffusion import flow
from ft_jax.diffusion.guidance import Config as Guidance
from ft_jax.diffusion.guidance import combine_stacked
from ft_jax.errors import UsageError
from ft_jax.models import fantasy
from ft_jax.models.term import AudioWindows
from ft_jax.typing import Params

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the loop."""

    guidance: Guidance = dataclasses.field(default_factory=Guidance)
    steps: int = 30
    shift: float = 5.0  # of the noise levels, towards noise
    rows_at_once: int = 8  # larger batches go through the network in parts of this size

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("rows_at_once", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name}: got {getattr(self, name)}; expected at least {least}")
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
    levels = flow.sigma_table(cfg.steps, cfg.shift)
    pairs = jnp.stack([levels[:-1], levels[1:]], axis=1)
    latents = jnp.array(filled.noise, jnp.float32)
    stride = cfg.steps if progress is None else 1
    for start in range(0, cfg.steps, stride):
        now = pairs[start : start + stride]
        latents = _steps(params, model, cfg.guidance, latents, now, stacked, overlap)
        if progress is not None:
            latents.block_until_ready()
            progress(start + stride, cfg.steps)
    return latents[:rows]


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
        conditions = fantasy.for_guidance(conditions, negative)
    return fantasy.prepare(params, model, conditions, windows)


@functools.partial(jax.jit, static_argnames=("model", "cfg"), donate_argnames=("latents",))
def _steps(
    params: Params,
    model: fantasy.Config,
    cfg: Guidance,
    latents: jax.Array,
    levels: jax.Array,
    prepared: fantasy.Prepared,
    overlap: tuple[jax.Array, jax.Array] | None,
) -> jax.Array:
    """Some steps in a row.

    Args:
      params: Of the denoiser.
      model: Its configuration.
      cfg: Strength of guidance.
      latents: All rows.
      levels: A row (sigma now, sigma next) for every step.
      prepared: Conditions, with a leading axis of parts of the batch.
      overlap: Ids and weights, or None.
    """

    def velocity(part: jax.Array, sigma: jax.Array, known: fantasy.Prepared) -> jax.Array:
        branches = jnp.concatenate([part] * cfg.branches)
        sigmas = jnp.full(branches.shape[0], sigma)
        return combine_stacked(fantasy.denoise(params, model, branches, sigmas, known), cfg)

    def step(latents: jax.Array, level: jax.Array) -> tuple[jax.Array, None]:
        sigma, following = level
        parts = jax.tree.leaves(prepared)[0].shape[0]
        split = latents.reshape(parts, -1, *latents.shape[1:])
        # A map over parts, not one large batch: memory stays that of one part.
        change = jax.lax.map(lambda each: velocity(each[0], sigma, each[1]), (split, prepared))
        change = change.reshape(latents.shape)
        if overlap is not None:
            change = _agree(change, *overlap)
        return latents + (following - sigma) * change, None

    return jax.lax.scan(step, latents, levels)[0]


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
