"""The smallest denoiser with all its parts, for tests: 5 latent frames of 4 x 6 positions."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta

from ft_jax.models import audio, dit, fantasy, identity, motion

FRAMES, TOKENS = 17, 31  # video frames, audio tokens
DIT = dit.Config(
    width=24,
    layers=2,
    heads=2,
    mlp_width=32,
    latent_channels=4,
    frequency_width=16,
    text_width=10,
    text_tokens=6,
    image_width=14,
    precision="parity",
)
CONFIG = fantasy.Config(
    dit=DIT,
    audio=audio.Config(feature_width=9, token_width=12),
    identity=identity.Config(
        embedding_width=8, queries=3, width=12, depth=1, heads=2, token_width=16
    ),
    motion=motion.Config(width=12, frequency_width=16),
)


def with_dit(**changes: Any) -> fantasy.Config:
    """`CONFIG` with other settings of the base model."""
    return dataclasses.replace(CONFIG, dit=dataclasses.replace(DIT, **changes))


def drawn(abstract: Any, seed: int = 0) -> Any:
    """Random values in every leaf, also where a fresh model has zeros: nothing cancels."""
    draw = np.random.default_rng(seed).standard_normal
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.2 * draw(leaf.shape), jnp.float32), meta.unbox(abstract)
    )


@functools.cache
def params(cfg: fantasy.Config = CONFIG) -> Any:
    """Random parameters, the same for configs that differ in execution only."""
    return drawn(fantasy.abstract_params(cfg))


@functools.cache
def fresh() -> Any:
    """The parameters that training starts from."""
    return jax.jit(lambda: fantasy.init(CONFIG, jax.random.key(0)))()


def inputs(samples: int = 2) -> tuple[jax.Array, jax.Array, fantasy.Conditions]:
    """Latents, levels and conditions, all different in every sample."""
    draw = np.random.default_rng(1).standard_normal
    normal = lambda *shape: jnp.asarray(draw((samples, *shape)), jnp.float32)  # noqa: E731
    conditions = fantasy.Conditions(
        condition_latents=normal(5, 4, 6, 4),
        image_tokens=normal(3, 14),
        text_tokens=normal(4, 10),
        audio_features=normal(TOKENS, 9),
        identity=normal(8),
        expression=jnp.linspace(0.1, 0.9, samples),
        body=jnp.linspace(0.7, 0.2, samples),
        image_scale=jnp.ones(samples),
        audio_scale=jnp.ones(samples),
        identity_scale=jnp.ones(samples),
    )
    return normal(5, 4, 6, 4), jnp.linspace(0.3, 0.8, samples), conditions


@functools.partial(jax.jit, static_argnums=1)
def apply(
    given: Any,
    cfg: fantasy.Config,
    latents: jax.Array,
    sigma: jax.Array,
    conditions: fantasy.Conditions,
    windows: audio.AudioWindows | None = None,
) -> jax.Array:
    """`fantasy.apply`, compiled once per config and shape."""
    return fantasy.apply(given, cfg, latents, sigma, conditions, windows)
