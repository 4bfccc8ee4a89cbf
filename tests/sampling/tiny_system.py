"""The system `tiny` of configs/models.py with random weights, for whatever samples from one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from configs import models
from ft_jax.config import build
from ft_jax.models import clip, face, fantasy, landmarks, syncnet, text, vae, wav2vec2
from ft_jax.models.system import System


def system() -> System:
    """Every part, as small as it runs."""
    return build(System, models.get_config("tiny"))


def params(made: System) -> dict[str, Any]:
    """Weights of all parts but the landmark network, which would see faces in noise."""
    modules = {
        "codec": vae,
        "speech": wav2vec2,
        "text": text,
        "image": clip,
        "face": face,
        "sync": syncnet,
    }
    parts = {
        name: random_params(functools.partial(module.init, cfg=getattr(made, name)))
        for name, module in modules.items()
    }
    return {**parts, "denoiser": denoiser_params(made.denoiser)}


def denoiser_params(cfg: fantasy.Config) -> Any:
    """Weights of the denoiser."""
    return random_params(lambda key: fantasy.init(cfg, key))


def landmarks_params(cfg: landmarks.Config) -> Any:
    """Weights of the landmark network."""
    return random_params(functools.partial(landmarks.init, cfg=cfg))


def random_params(init: Callable[[jax.Array], Any]) -> Any:
    """Random everywhere, for kernels that start at zero would hide branches; compiles nothing."""
    draw = np.random.default_rng(0)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = draw.standard_normal(shape.shape).astype(np.float32)
        if path[-1].key == "scale":
            return 1.0 + 0.1 * noise
        return noise * np.float32(0.7 * shape.shape[-2] ** -0.5 if noise.ndim > 1 else 0.1)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(init, jax.random.key(0)))
