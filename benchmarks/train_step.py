"""One training step against PyTorch's: forward, backward and update of the three branches.

    python -m benchmarks.train_step                   prints the table
    python -m benchmarks.train_step --write           also into benchmarks/RESULTS.md
    python -m benchmarks.train_step --only mini

The base is frozen, the branches learn, as in both stages of the paper. Ours is the update of
ft_jax/training/step.py; theirs is diffusers' transformer with the branches of our PyTorch file,
`clip_grad_norm_` and `torch.optim.AdamW`. Same weights, noise, conditions and float32 on both
sides, in turns in this process; before anything is timed the gradient norms are compared.

    mini     the denoiser that ships, 4 samples
    block    one block of the width of Wan2.1-14B (5120, 40 heads, 13,824), one sample of 320 tokens

Goals on a CPU: forward not slower, step at most 1.2 times PyTorch's, less memory.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import comparison, networks
from configs import models, stage2_frame
from ft_jax.checkpoints.tree import flatten
from ft_jax.config import build
from ft_jax.convert import counterpart
from ft_jax.models import audio, fantasy
from ft_jax.models import system as systems
from ft_jax.models.system import System
from ft_jax.training import losses, optim, step
from ft_jax.training.state import create
from ft_jax.typing import Params

TITLE = "Training step against PyTorch"
SIZES = {"mini": (4, (9, 8, 8)), "block": (1, (5, 16, 16))}
"""Samples, and latent frames, rows, columns; tokens are a quarter of the positions."""


def system_of(size: str) -> System:
    """With a denoiser of one of the sizes, in float32."""
    full = build(System, models.get_config("mini" if size == "mini" else "wan_14b"))
    base = full.denoiser.dit
    layers = base.layers if size == "mini" else 1
    # diffusers tells text from image tokens by 512 rows of text.
    changed = dataclasses.replace(base, layers=layers, precision="parity", text_tokens=512)
    return dataclasses.replace(full, denoiser=dataclasses.replace(full.denoiser, dit=changed))


def inputs(cfg: fantasy.Config, size: str) -> tuple[jax.Array, jax.Array, fantasy.Conditions]:
    """Latents, noise levels and conditions, drawn."""
    samples, grid = SIZES[size]
    base, ones = cfg.dit, jnp.ones(samples)
    normal = lambda *shape, seed=0: jnp.asarray(comparison.drawn(*shape, seed=seed))  # noqa: E731
    assert cfg.audio and cfg.identity
    face = normal(samples, cfg.identity.embedding_width, seed=5)
    conditions = fantasy.Conditions(
        condition_latents=normal(samples, *grid, base.latent_channels, seed=1),
        image_tokens=normal(samples, networks.IMAGE_TOKENS, base.image_width or 0, seed=2),
        text_tokens=normal(samples, base.text_tokens, base.text_width, seed=3),
        audio_features=normal(samples, 2 * frames(size), cfg.audio.feature_width, seed=4),
        identity=face / jnp.linalg.norm(face, axis=-1, keepdims=True),
        expression=jnp.linspace(0.1, 0.9, samples),
        body=jnp.linspace(0.7, 0.2, samples),
        image_scale=ones,
        audio_scale=ones,
        identity_scale=ones,
    )
    latents = normal(samples, *grid, base.latent_channels)
    return latents, jnp.linspace(0.3, 0.8, samples), conditions


def frames(size: str) -> int:
    """Video frames of the clip."""
    return audio.LATENT_STRIDE * (SIZES[size][1][0] - 1) + 1


def weights(system: System) -> Params:
    """Random in every leaf: branches that are zero would have no gradient."""
    draw = np.random.default_rng(0).standard_normal

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = draw(shape.shape, np.float32)
        if path[-1].key == "scale":
            return 1 + np.float32(0.1) * noise
        return noise * np.float32(shape.shape[-2] ** -0.5 if noise.ndim > 1 else 0.1)

    return jax.tree_util.tree_map_with_path(leaf, systems.abstract(system, "denoiser"))


class Velocity:
    """What a step needs of a stage: the squared error against a given velocity."""

    def __init__(self, cfg: fantasy.Config, windows: audio.AudioWindows | None) -> None:
        """Takes the network and the windows of its speech."""
        self.cfg, self.windows = cfg, windows

    def loss(
        self, trained: Params, frozen: Params, batch: Any, key: jax.Array, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean over everything; nothing is drawn, so that both sides do the same."""
        del key, train
        latents, levels, conditions, target = batch
        made = fantasy.apply(
            {**frozen, **trained}, self.cfg, latents, levels, conditions, self.windows
        )
        return jnp.mean(losses.whole(losses.squared_error(made, target))), {}


def rows(size: str) -> Iterator[comparison.Row]:
    """Forward alone, then the whole step."""
    import torch

    system, chosen = system_of(size), stage2_frame.get_config("mini").to_dict()["optim"]
    settings = build(optim.Config, {**chosen, "groups": chosen["groups"]["adapter"]})
    cfg, params = system.denoiser, weights(system)
    given = latents, levels, conditions = inputs(cfg, size)
    assert cfg.audio
    windows = audio.windows(cfg.audio, "frame", 2 * frames(size), frames(size))
    both = counterpart.build(params, cfg)
    params = jax.tree.map(jnp.asarray, params)
    target = jnp.asarray(comparison.drawn(*latents.shape, seed=9))

    def velocity(params: Params, latents: Any, levels: Any, conditions: Any) -> jax.Array:
        return fantasy.apply(params, cfg, latents, levels, conditions, windows)

    def theirs() -> Any:
        return counterpart.forward(both, latents, levels, conditions, "frame", frames(size))

    yield comparison.Row(
        f"{size}, forward", 1.0, velocity, (params, *given),
        comparison.without_gradient(theirs), comparison.last,
    )  # fmt: skip

    frozen, trained = {"dit": params["dit"]}, {k: x for k, x in params.items() if k != "dit"}
    optimizer = optim.make(settings, 1000, dict.fromkeys(flatten(trained), 1.0))
    stage = Velocity(cfg, windows)

    def update(state: Any, frozen: Params, batch: Any) -> tuple[jax.Array, Any]:
        after, metrics = step.train_step(
            state, frozen, batch, stage=stage, optimizer=optimizer, seed=0, accumulate=1, ema=0.0
        )
        return metrics["gradient_norm"], after

    learned = list(both.branches.requires_grad_(True).parameters())
    adam = torch.optim.AdamW(
        learned, settings.schedule.rate, (settings.b1, settings.b2), settings.eps
    )
    wanted = comparison.tensor(np.moveaxis(np.asarray(target), -1, 1))

    def their_update() -> Any:
        adam.zero_grad()
        (theirs() - wanted).square().mean().backward()
        norm = torch.nn.utils.clip_grad_norm_(learned, settings.clip_norm)
        adam.step()
        return norm[None]

    state = create(trained, optimizer, 0.0)
    batch = (*given, target)
    yield comparison.Row(
        f"{size}, step", 1.2, update, (state, frozen, batch), their_update, lambda norm: norm[0],
        carries=True,
    )  # fmt: skip


if __name__ == "__main__":
    cases = {size: functools.partial(rows, size) for size in SIZES}
    comparison.main("train_step", TITLE, cases, __doc__ or "")
