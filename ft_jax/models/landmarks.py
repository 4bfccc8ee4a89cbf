"""Landmark network of the drawn world: one frame in, named measures of the face out.

A measuring instrument for evaluation and annotation, in the place that a landmark detector has for
real video. It never sees the denoiser. Outputs are standardised while it trains; `measure` gives
them in the units of the data set (shares of the frame, see data_pipeline/schema.py) by the means
and deviations in the config.

Shapes (letters: ft_jax/typing.py)
    frames    [b H W 3]  -1..1, H = W = cfg.pixels
    outputs   [b m]      the measures of cfg.measures, then left, top, right, bottom of the face
                         box, all standardised, then the logit of "the face can be seen"

Tests: tests/models/landmarks_test.py.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.nn.conv import Conv
from ft_jax.nn.linear import Linear, lift
from ft_jax.nn.norm import GroupNorm
from ft_jax.typing import Params

BOX = ("left", "top", "right", "bottom")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes, and what is measured in which scale.

    Attributes:
        pixels: rows and columns of the frame.
        widths: channels of the levels; each halves the frame.
        hidden: width of the layer that sees all positions.
        measures: names of the measured values, without the box and the visibility.
        mean: mean of each measure and of the four sides of the box over the training set.
        std: their standard deviations.
    """

    pixels: int
    widths: tuple[int, ...]
    hidden: int
    measures: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def outputs(self) -> int:
        """Measures, box and visibility."""
        return len(self.measures) + len(BOX) + 1


@struct.dataclass
class Measures:
    """What was measured; arrays, one row a frame.

    Attributes:
        values: In the order of `cfg.measures`, in the units of the data set.
        box: Left, top, right, bottom of the face as shares of width and height.
        visible: Probability that the face can be seen.
    """

    values: Float[Array, "b m"]
    box: Float[Array, "b 4"]
    visible: Float[Array, " b"]


class Landmarks(nn.Module):
    """Convolutions to a small grid, then two linear layers over all of it."""

    cfg: Config

    @nn.compact
    def __call__(self, frames: Float[Array, "b H W 3"]) -> Float[Array, "b m"]:
        """Standardised measures, standardised box, visibility logit."""
        cfg = self.cfg
        x, inputs = frames, 3
        for level, width in enumerate(cfg.widths):
            x = Conv(inputs, width, (3, 3), strides=2, name=f"level_{level}_down")(x)
            x = nn.silu(GroupNorm(width, width // 8, name=f"level_{level}_norm")(x))
            y = Conv(width, width, (3, 3), name=f"level_{level}_conv")(x)
            x = x + nn.silu(GroupNorm(width, width // 8, name=f"level_{level}_conv_norm")(y))
            inputs = width
        x = x.reshape(x.shape[0], -1)
        x = nn.silu(Linear(x.shape[1], cfg.hidden, ("conv_in", "mlp"), name="hidden")(x))
        return Linear(cfg.hidden, cfg.outputs, ("mlp", "conv_out"), name="out")(x)


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    return meta.unbox(Landmarks(cfg).init(key, jnp.zeros((1, cfg.pixels, cfg.pixels, 3)))["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return Landmarks(cfg).apply({"params": params}, *arguments, method=method)


def outputs(params: Params, cfg: Config, frames: Float[Array, "b H W 3"]) -> Float[Array, "b m"]:
    """Raw outputs, for training: see the head of this file."""
    return _run("__call__", params, cfg, frames)


def standardise(
    cfg: Config, values: Float[Array, "b m"], box: Float[Array, "b 4"]
) -> Float[Array, "b o"]:
    """Targets of the raw outputs (without the visibility) from truth in the data set's units."""
    mean, std = (lift(jnp.asarray(row), 2) for row in (cfg.mean, cfg.std))
    return (jnp.concatenate([values, box], axis=-1) - mean) / std


def measure(params: Params, cfg: Config, frames: Float[Array, "b H W 3"]) -> Measures:
    """Measures of each frame in the units of the data set."""
    raw = outputs(params, cfg, frames)
    mean, std = (lift(jnp.asarray(row), 2) for row in (cfg.mean, cfg.std))
    values = raw[:, :-1] * std + mean
    count = len(cfg.measures)
    return Measures(values[:, :count], values[:, count:], jax.nn.sigmoid(raw[:, -1]))
