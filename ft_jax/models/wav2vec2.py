"""Speech encoder in the wav2vec2 layout: a waveform in, about 50 feature rows a second out.

Seven unpadded convolutions (400 samples wide, 320 apart), a projection, a convolution that tells
positions apart, and post-norm Transformer layers; the last hidden state is what the denoiser hears.
The first is normalised per channel over the whole cut, so features depend on all of it: encode the
cut that training saw, or overlapping pieces of one length.

The small model learns to hear from phonemes: a linear head, `phonemes` in the parameter tree, that
nothing else uses (training/stages/speech.py).

Shapes (letters: ft_jax/typing.py)
    waveform  [b x]      16 kHz mono, `normalise_waveform`d over the cut
    features  [b a ca]   a = (x - 400) // 320 + 1

Source: wav2vec 2.0 base; weight norm of the positional convolution is folded when weights are read.
Tests: tests/models/wav2vec2_test.py, tests/parity/wav2vec2_parity_test.py (transformers).
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.errors import UsageError
from ft_jax.nn.attention import attention
from ft_jax.nn.conv import Conv, convolve
from ft_jax.nn.linear import Linear, initializer
from ft_jax.nn.norm import GroupNorm, LayerNorm
from ft_jax.typing import Params

KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
_EPS = 1e-5


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are those of the base model.

    Attributes:
        channels: of the seven convolutions.
        width: of the Transformer, and of a feature row.
        layers: Transformer layers.
        heads: attention heads.
        mlp_width: hidden width of the feed-forward networks.
        position_kernel: taps of the positional convolution.
        position_groups: its groups.
        phonemes: outputs of the phoneme head; 0 = no head.
    """

    channels: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    position_kernel: int = 128
    position_groups: int = 16
    phonemes: int = 0


def feature_length(samples: int) -> int:
    """Feature rows of a waveform of so many samples (16 kHz): (samples - 400) // 320 + 1."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        samples = (samples - kernel) // stride + 1
    return max(samples, 0)


def normalise_waveform(waveform: Float[Array, "b x"]) -> Float[Array, "b x"]:
    """Zero mean and unit variance over the cut (silence stays silence)."""
    centred = waveform - waveform.mean(-1, keepdims=True)
    return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-7)


class Taps(nn.Module):
    """Unpadded convolution without bias; kernel [taps c, o], taps slowest."""

    inputs: int
    outputs: int
    taps: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b a c"]) -> Float[Array, "b _ o"]:
        """Row i of the result is made of rows i stride .. i stride + taps - 1."""
        shape = (self.taps * self.inputs, self.outputs)
        kernel = self.param("kernel", initializer("lecun", ("conv_in", "conv_out")), shape)
        kernel = kernel.astype(x.dtype).reshape(self.taps, self.inputs, self.outputs)
        return convolve(x, kernel, (self.stride,), "VALID")


class Features(nn.Module):
    """Waveform to rows of channels, 50 a second."""

    width: int

    @nn.compact
    def __call__(self, waveform: Float[Array, "b x"]) -> Float[Array, "b a c"]:
        """Seven times convolution and GELU; the first convolution is normalised over time."""
        x, inputs = waveform[..., None], 1
        for index, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True)):
            x = Taps(inputs, self.width, kernel, stride, name=f"conv_{index}")(x)
            if index == 0:
                x = GroupNorm(self.width, self.width, eps=_EPS, name="norm")(x)
            x, inputs = nn.gelu(x, approximate=False), self.width
        return x


class Layer(nn.Module):
    """Post-norm Transformer layer."""

    cfg: Config

    @nn.compact
    def __call__(self, x: Float[Array, "b a d"], _: None) -> tuple[Float[Array, "b a d"], None]:
        """Attention and feed-forward, each added to its input and then normalised."""
        cfg = self.cfg
        linear = functools.partial(Linear, cfg.width, cfg.width, ("embed", "heads"))
        heads = (*x.shape[:2], cfg.heads, cfg.width // cfg.heads)
        q, k, v = (linear(name=name)(x).reshape(heads) for name in ("query", "key", "value"))
        y = attention(q, k, v).reshape(x.shape)
        y = Linear(cfg.width, cfg.width, ("heads", "embed"), name="out")(y)
        x = LayerNorm(cfg.width, eps=_EPS, name="attention_norm")(x + y)
        y = nn.gelu(Linear(cfg.width, cfg.mlp_width, name="up")(x), approximate=False)
        y = Linear(cfg.mlp_width, cfg.width, ("mlp", "embed"), name="down")(y)
        return LayerNorm(cfg.width, eps=_EPS, name="mlp_norm")(x + y), None


class Wav2Vec2(nn.Module):
    """The encoder and, where the config asks for one, the phoneme head."""

    cfg: Config

    def setup(self) -> None:
        """Declares all parts in the order of the signal."""
        cfg = self.cfg
        taps = cfg.position_kernel
        self.features = Features(cfg.channels)
        self.project_norm = LayerNorm(cfg.channels, eps=_EPS)
        self.project = Linear(cfg.channels, cfg.width, ("mlp", "embed"))
        # An even kernel's last output is dropped, which is one row less of padding behind.
        padding = ((taps // 2, taps // 2 - (taps + 1) % 2),)
        self.position = Conv(
            cfg.width, cfg.width, (taps,), padding=padding, groups=cfg.position_groups
        )
        self.norm = LayerNorm(cfg.width, eps=_EPS)
        stack = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=cfg.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        self.layers = stack(cfg)
        if cfg.phonemes:
            self.phonemes = Linear(cfg.width, cfg.phonemes, ("embed", "vocab"))

    def encode(self, waveform: Float[Array, "b x"]) -> Float[Array, "b a ca"]:
        """The last hidden state."""
        x = self.project(self.project_norm(self.features(waveform)))
        x = self.norm(x + nn.gelu(self.position(x), approximate=False))
        return self.layers(x, None)[0]

    def classify(self, features: Float[Array, "b a ca"]) -> Float[Array, "b a y"]:
        """Phoneme logits of a last hidden state."""
        return self.phonemes(features)

    def __call__(self, waveform: Float[Array, "b x"]) -> Any:
        """Runs every part once; initialises every parameter."""
        features = self.encode(waveform)
        return self.classify(features) if self.cfg.phonemes else features


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    return meta.unbox(Wav2Vec2(cfg).init(key, jnp.zeros((1, 800)))["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return Wav2Vec2(cfg).apply({"params": params}, *arguments, method=method)


def encode(params: Params, cfg: Config, waveform: Float[Array, "b x"]) -> Float[Array, "b a ca"]:
    """Features of a normalised waveform.

    Raises:
        UsageError: the waveform is shorter than one feature row (400 samples).
    """
    if feature_length(waveform.shape[1]) < 1:
        raise UsageError(f"speech: {waveform.shape[1]} samples; expected at least 400 (25 ms)")
    return _run("encode", params, cfg, waveform)


def phoneme_logits(
    params: Params, cfg: Config, features: Float[Array, "b a ca"]
) -> Float[Array, "b a y"]:
    """Logits of the phoneme classes from the encoder's features."""
    return _run("classify", params, cfg, features)
