"""Image encoder in the CLIP ViT layout: a picture in, a class token and one token per patch out.

The denoiser reads the tokens before the last layer, unnormalised and unprojected; the last layer,
the norm behind it and the projection exist only where the encoder is trained against text
(`projection` > 0), and `pooled` runs them.

`preprocess` squashes a picture of any aspect ratio to the square that the network takes, with
PyTorch's bicubic (a = -0.75, no antialiasing, borders repeated) as two small matrices.

Shapes (letters: ft_jax/typing.py)
    picture  [b H W 3]    -1..1
    pixels   [b h w 3]    after `preprocess`: h = w = cfg.pixels, zero mean and unit variance
    tokens   [b i ci]     i = 1 + (pixels / patch)^2, class token first

Source: Wan2.1 clip.py (visual tower). Tests: tests/models/clip_test.py,
tests/parity/clip_parity_test.py (transformers, torch bicubic).
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.nn.attention import attention
from ft_jax.nn.learned import Learned
from ft_jax.nn.linear import Linear, lift
from ft_jax.nn.norm import LayerNorm
from ft_jax.typing import Params

# Of the pictures the released model was trained on, per colour, range 0..1.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are those of ViT-H/14.

    Attributes:
        pixels: rows and columns of the square picture.
        patch: rows and columns of a patch.
        width: of the residual stream and of a token.
        layers: Transformer layers of the tower, the last (unused by the denoiser) included.
        heads: attention heads.
        mlp_width: hidden width of the feed-forward networks.
        projection: width of the pooled projection; 0 = no last layer, norm and projection.
    """

    pixels: int = 224
    patch: int = 14
    width: int = 1280
    layers: int = 32
    heads: int = 16
    mlp_width: int = 5120
    projection: int = 0

    @property
    def tokens(self) -> int:
        """Class token and patches."""
        return 1 + (self.pixels // self.patch) ** 2


@functools.cache
def bicubic_matrix(inputs: int, outputs: int) -> np.ndarray:
    """Weights [outputs, inputs] of a cubic resize along one axis, as PyTorch computes it.

    a = -0.75, no antialiasing, sample centres at half pixels, border pixels repeated.
    """
    a = -0.75
    # Float32, as PyTorch computes it: near a sample the last bits decide the neighbours.
    half = np.float32(0.5)
    step = np.float32(inputs) / np.float32(outputs)
    centre = step * (np.arange(outputs, dtype=np.float32) + half) - half
    left = np.floor(centre).astype(int)
    matrix = np.zeros((outputs, inputs))
    for tap in range(-1, 3):
        x = np.abs(centre - (left + tap))
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        column = np.clip(left + tap, 0, inputs - 1)
        np.add.at(matrix, (np.arange(outputs), column), np.where(x <= 1, near, far))
    return matrix.astype(np.float32)


def preprocess(cfg: Config, picture: Float[Array, "b H W 3"]) -> Float[Array, "b h w 3"]:
    """A picture in -1..1 of any size -> the network's square, whatever the aspect ratio."""
    rows = bicubic_matrix(picture.shape[1], cfg.pixels)
    columns = bicubic_matrix(picture.shape[2], cfg.pixels)
    # Bfloat16 passes of an accelerator's matmul would show in the picture.
    product = functools.partial(jnp.einsum, precision="highest")
    square = product("hH,bHWc->bhWc", rows, picture.astype(jnp.float32))
    square = product("wW,bhWc->bhwc", columns, square)
    mean, std = (lift(jnp.asarray(values), 4) for values in (_MEAN, _STD))
    return (square * 0.5 + 0.5 - mean) / std


class Layer(nn.Module):
    """Pre-norm Transformer layer with erf-GELU."""

    cfg: Config

    @nn.compact
    def __call__(self, x: Float[Array, "b i d"], _: None) -> tuple[Float[Array, "b i d"], None]:
        """Keeps the shape."""
        cfg = self.cfg
        y = LayerNorm(cfg.width, eps=_EPS, name="attention_norm")(x)
        linear = functools.partial(Linear, cfg.width, cfg.width, ("embed", "heads"))
        heads = (*x.shape[:2], cfg.heads, cfg.width // cfg.heads)
        q, k, v = (linear(name=name)(y).reshape(heads) for name in ("query", "key", "value"))
        y = attention(q, k, v).reshape(x.shape)
        x = x + Linear(cfg.width, cfg.width, ("heads", "embed"), name="out")(y)
        y = LayerNorm(cfg.width, eps=_EPS, name="mlp_norm")(x)
        y = nn.gelu(Linear(cfg.width, cfg.mlp_width, name="up")(y), approximate=False)
        return x + Linear(cfg.mlp_width, cfg.width, ("mlp", "embed"), name="down")(y), None


class Clip(nn.Module):
    """Patches, positions, layers and, for training against text, the end of the tower."""

    cfg: Config

    def setup(self) -> None:
        """Declares all parts."""
        cfg = self.cfg
        lanes = 3 * cfg.patch**2
        self.patches = Linear(lanes, cfg.width, ("conv_in", "embed"), use_bias=False)
        self.class_token = Learned((cfg.width,), ("norm",))
        self.positions = Learned((cfg.tokens, cfg.width), ("spatial", "embed"))
        self.pre_norm = LayerNorm(cfg.width, eps=_EPS)
        stack = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=cfg.layers - 1,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        self.layers = stack(cfg)
        if cfg.projection:
            self.last = Layer(cfg)
            self.post_norm = LayerNorm(cfg.width, eps=_EPS)
            self.projection = Linear(cfg.width, cfg.projection, use_bias=False)

    def encode(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b i ci"]:
        """Tokens before the last layer."""
        cfg = self.cfg
        batch, side = pixels.shape[0], cfg.pixels // cfg.patch
        x = pixels.reshape(batch, side, cfg.patch, side, cfg.patch, 3)
        x = self.patches(x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, side * side, -1))
        first = jnp.broadcast_to(self.class_token().astype(x.dtype), (batch, 1, cfg.width))
        x = jnp.concatenate([first, x], axis=1) + self.positions()[None].astype(x.dtype)
        return self.layers(self.pre_norm(x), None)[0]

    def pool(self, tokens: Float[Array, "b i ci"]) -> Float[Array, "b c"]:
        """Unit-length projection of the class token after the last layer."""
        x = self.last(tokens, None)[0]
        y = self.projection(self.post_norm(x[:, 0]))
        return y * jax.lax.rsqrt(jnp.square(y).sum(-1, keepdims=True) + 1e-12)

    def __call__(self, pixels: Float[Array, "b h w 3"]) -> jax.Array:
        """Runs every part once; initialises every parameter."""
        tokens = self.encode(pixels)
        return self.pool(tokens) if self.cfg.projection else tokens


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    return meta.unbox(Clip(cfg).init(key, jnp.zeros((1, cfg.pixels, cfg.pixels, 3)))["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return Clip(cfg).apply({"params": params}, *arguments, method=method)


def encode(params: Params, cfg: Config, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b i ci"]:
    """Penultimate tokens of a preprocessed picture."""
    return _run("encode", params, cfg, pixels)


def pooled(params: Params, cfg: Config, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b c"]:
    """Unit-length vector of a preprocessed picture, for image-text training."""
    return _run("__call__", params, cfg, pixels)
