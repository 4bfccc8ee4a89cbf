"""Face encoder in the ArcFace IResNet layout: an aligned face crop in, a unit vector out.

Residual blocks without activation at their end (norm, conv, norm, PReLU, conv, norm), four levels
that halve the crop, and one linear layer over all that is left. Faces of one person point the same
way: the cosine of two vectors says whether they are the same.

`norm` decides between the released form ("batch": normalisation by stored statistics, which are
part of the parameters as `mean` and `var` and are never trained here) and one that trains as a
pure function of each picture ("group"), which the small model uses.

Shapes (letters: ft_jax/typing.py)
    crops      [b H W 3]  -1..1, RGB, H = W = cfg.pixels, aligned to five landmarks
    embedding  [b ce]     unit length

Source: insightface iresnet. Tests: tests/models/face_test.py, tests/parity/face_parity_test.py.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.nn.conv import Conv
from ft_jax.nn.linear import Linear, lift
from ft_jax.nn.norm import GroupNorm, LayerNorm
from ft_jax.typing import Params

_GROUP = 8  # channels that share their statistics


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are those of IResNet-50. IResNet-100 has blocks (3, 13, 30, 3).

    Attributes:
        pixels: rows and columns of the crop.
        widths: channels of the four levels.
        blocks: residual blocks of the four levels.
        width: of the embedding.
        norm: "batch" (stored statistics) or "group" (statistics of the picture itself).
    """

    pixels: int = 112
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 14, 3)
    width: int = 512
    norm: Literal["batch", "group"] = "batch"


def _leaf(module: nn.Module, name: str, start: float, shape: tuple[int, int]) -> jax.Array:
    """A vector parameter of `shape[0]` channels that starts as `start`, against rank `shape[1]`."""
    initial = nn.with_logical_partitioning(nn.initializers.constant(start), ("norm",))
    return lift(jnp.asarray(module.param(name, initial, (shape[0],))), shape[1])


class BatchNorm(nn.Module):
    """Normalises by stored statistics; only `scale` and `bias` take gradients."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *l c"]) -> Float[Array, "b *l c"]:
        """The same map for every sample."""
        shape = (self.width, x.ndim)
        mean = jax.lax.stop_gradient(_leaf(self, "mean", 0.0, shape))
        var = jax.lax.stop_gradient(_leaf(self, "var", 1.0, shape))
        y = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + 1e-5)
        y = y * _leaf(self, "scale", 1.0, shape) + _leaf(self, "bias", 0.0, shape)
        return y.astype(x.dtype)


class PRelu(nn.Module):
    """Negative values are multiplied by one learned slope per channel."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *l c"]) -> Float[Array, "b *l c"]:
        """Keeps the shape."""
        slope = _leaf(self, "slope", 0.25, (self.width, x.ndim)).astype(x.dtype)
        return jnp.where(x >= 0, x, x * slope)


def normalisation(cfg: Config, width: int, name: str) -> nn.Module:
    """The norm that the config names, for a picture of `width` channels."""
    if cfg.norm == "batch":
        return BatchNorm(width, name=name)
    return GroupNorm(width, max(width // _GROUP, 1), name=name)


def convolution(inputs: int, outputs: int, stride: int, name: str, taps: int = 3) -> Conv:
    """Without bias; padded as PyTorch does, the same on both sides."""
    pad = taps // 2
    return Conv(
        inputs,
        outputs,
        (taps, taps),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        use_bias=False,
        name=name,
    )


class Block(nn.Module):
    """Residual block; halves rows and columns where `stride` is 2."""

    cfg: Config
    inputs: int
    outputs: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b H W c"]) -> Float[Array, "b h w o"]:
        """Adds its change to `x`, or to a 1x1 convolution of it where the shape changes."""
        cfg = self.cfg
        y = normalisation(cfg, self.inputs, "norm_1")(x)
        y = convolution(self.inputs, self.outputs, 1, "conv_1")(y)
        y = normalisation(cfg, self.outputs, "norm_2")(y)
        y = PRelu(self.outputs, name="prelu")(y)
        y = convolution(self.outputs, self.outputs, self.stride, "conv_2")(y)
        y = normalisation(cfg, self.outputs, "norm_3")(y)
        if self.stride > 1 or self.inputs != self.outputs:
            x = convolution(self.inputs, self.outputs, self.stride, "shortcut", taps=1)(x)
            x = normalisation(cfg, self.outputs, "shortcut_norm")(x)
        return x + y


class Face(nn.Module):
    """Crop to embedding."""

    cfg: Config

    @nn.compact
    def __call__(self, crops: Float[Array, "b H W 3"]) -> Float[Array, "b ce"]:
        """Unit-length vectors."""
        cfg = self.cfg
        inputs = cfg.widths[0]
        x = convolution(3, inputs, 1, "stem")(crops)
        x = PRelu(inputs, name="prelu")(normalisation(cfg, inputs, "stem_norm")(x))
        for level, (width, blocks) in enumerate(zip(cfg.widths, cfg.blocks, strict=True)):
            for block in range(blocks):
                stride = 2 if block == 0 else 1
                x = Block(cfg, inputs, width, stride, name=f"level_{level}_block_{block}")(x)
                inputs = width
        x = normalisation(cfg, inputs, "norm")(x).reshape(x.shape[0], -1)
        y = Linear(x.shape[1], cfg.width, ("conv_in", "conv_out"), name="out")(x)
        # The last norm works on single vectors, which have no neighbours to share statistics with.
        batch = cfg.norm == "batch"
        norm = (
            BatchNorm(cfg.width, name="out_norm")
            if batch
            else LayerNorm(cfg.width, name="out_norm")
        )
        y = norm(y).astype(jnp.float32)
        return y * jax.lax.rsqrt(jnp.square(y).sum(-1, keepdims=True) + 1e-12)


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    return meta.unbox(Face(cfg).init(key, jnp.zeros((1, cfg.pixels, cfg.pixels, 3)))["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return Face(cfg).apply({"params": params}, *arguments, method=method)


def embed(params: Params, cfg: Config, crops: Float[Array, "b H W 3"]) -> Float[Array, "b ce"]:
    """Unit-length embeddings of aligned face crops in -1..1."""
    return _run("__call__", params, cfg, crops)
