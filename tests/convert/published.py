"""A system as small as `tiny` of configs/models.py whose every part has a published form."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import models
from ft_jax.config import build
from ft_jax.convert import export, formats
from ft_jax.models import lora
from ft_jax.models.system import System
from tests.sampling import tiny_system


def settings() -> ConfigDict:
    """Without the heads that only the small encoders are trained with; `FLAGS` says it too."""
    config = models.get_config("tiny")
    config.speech.phonemes, config.text.projection, config.face.norm = 0, 0, "batch"
    return config


FLAGS = [
    "--config=configs/models.py:tiny",
    "--config.speech.phonemes=0",
    "--config.text.projection=0",
    "--config.face.norm=batch",
]


@functools.cache
def system() -> System:
    return build(System, settings().to_dict())


LORA = lora.Config(2, 3.0, "blocks/(self_attention/(query|output)|mlp/hidden)")


@functools.cache
def adapted() -> System:
    """With low-rank changes of the base."""
    whole = system()
    return dataclasses.replace(whole, denoiser=dataclasses.replace(whole.denoiser, lora=LORA))


@functools.cache
def params(dtype: str = "float32", made: System | None = None) -> Any:
    """Random weights of all parts."""
    drawn = tiny_system.params(made or system())
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.dtype(dtype)), drawn)


def system_of(name: str) -> System:
    """One that has the part that the format `name` is about."""
    return adapted() if formats.named(name).part == "denoiser/lora" else system()


def write(name: str, out: Path, shard_bytes: int = 10**9, dtype: str = "float32") -> Path:
    """The weights in the format `name`."""
    made = system_of(name)
    export.write(formats.named(name), made, params(dtype, made), out, shard_bytes)
    return out
