"""SyncNet: a fifth of a second of speech and of lips in, two vectors that lie close if they match.

The network behind the published sync scores (distance and confidence): two stacks of convolutions,
one over the cepstrum of 0.2 s of sound, one over the five frames shown meanwhile, each followed by
two linear layers. The Euclidean distance of the two vectors, over shifts of one against the other,
says how far sound and lips are apart.

Both stacks are rows of one kind (`Stage`): convolution with bias, batch normalisation by stored
statistics, ReLU and, where given, max pooling. The first convolution over the lips spans all five
frames, so what follows sees one picture: five frames are one frame of 15 channels, taps in channels
being the same sum as a convolution over time.

Shapes (letters: ft_jax/typing.py)
    cepstrum  [b 13 20]      13 mel-frequency cepstral coefficients, 100 columns a second, 16 kHz
    lips      [b 5 224 224 3]  five frames at 25 frames/s of the face crop, 0..255, in the order of
                             colours that OpenCV reads (blue first): what the weights were made for
    returns   [b c]          c = `width` = 1024, not normalised

Source: Chung & Zisserman, "Out of time: automated lip sync in the wild"; syncnet_python.
Tests: tests/models/syncnet_test.py, tests/parity/syncnet_parity_test.py.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.models.face import BatchNorm
from ft_jax.nn.conv import Conv
from ft_jax.nn.linear import Linear
from ft_jax.typing import Params

COEFFICIENTS, COLUMNS = 13, 20
FRAMES, PIXELS = 5, 224
Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One convolution and the pooling behind it, in rows and columns; `pool` None = no pooling."""

    taps: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    pool: Pair | None = None
    pool_stride: Pair = (1, 1)
    pool_padding: int = 0


AUDIO = (
    Stage((3, 3), padding=(1, 1)),
    Stage((3, 3), padding=(1, 1), pool=(3, 3), pool_stride=(1, 2)),
    Stage((3, 3), padding=(1, 1)),
    Stage((3, 3), padding=(1, 1)),
    Stage((3, 3), padding=(1, 1), pool=(3, 3), pool_stride=(2, 2)),
    Stage((5, 4)),
)
LIPS = (
    Stage((7, 7), stride=(2, 2), pool=(3, 3), pool_stride=(2, 2)),
    Stage((5, 5), (2, 2), padding=(1, 1), pool=(3, 3), pool_stride=(2, 2), pool_padding=1),
    Stage((3, 3), padding=(1, 1)),
    Stage((3, 3), padding=(1, 1)),
    Stage((3, 3), padding=(1, 1), pool=(3, 3), pool_stride=(2, 2)),
    Stage((6, 6)),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are those of the published weights.

    Attributes:
        audio: channels after each convolution over the cepstrum.
        lips: channels after each convolution over the frames.
        hidden: width of the layer before the last.
        width: of the two vectors.
    """

    audio: tuple[int, ...] = (64, 192, 384, 256, 256, 512)
    lips: tuple[int, ...] = (96, 256, 256, 256, 256, 512)
    hidden: int = 512
    width: int = 1024


def _pooled(x: Float[Array, "b h w c"], stage: Stage) -> Float[Array, "b _ _ c"]:
    if stage.pool is None:
        return x
    edges: Any = ((stage.pool_padding, stage.pool_padding),) * 2
    return nn.max_pool(x, stage.pool, strides=stage.pool_stride, padding=edges)


class Stream(nn.Module):
    """One of the two networks: a picture of any number of channels to a vector."""

    stages: tuple[Stage, ...]
    channels: tuple[int, ...]
    inputs: int
    hidden: int
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b o"]:
        """The convolutions leave one position; two linear layers follow."""
        inputs = self.inputs
        for index, (stage, outputs) in enumerate(zip(self.stages, self.channels, strict=True)):
            rows, columns = stage.padding
            x = Conv(
                inputs,
                outputs,
                stage.taps,
                strides=stage.stride,
                padding=((rows, rows), (columns, columns)),
                name=f"conv_{index}",
            )(x)
            x = nn.relu(BatchNorm(outputs, name=f"norm_{index}")(x))
            x, inputs = _pooled(x, stage), outputs
        x = Linear(inputs, self.hidden, ("conv_in", "conv_out"), name="hidden")(
            x.reshape(len(x), -1)
        )
        x = nn.relu(BatchNorm(self.hidden, name="hidden_norm")(x))
        return Linear(self.hidden, self.width, ("conv_in", "conv_out"), name="out")(x)


class SyncNet(nn.Module):
    """Both networks."""

    cfg: Config

    def setup(self) -> None:
        """Declares them."""
        cfg = self.cfg
        last = (cfg.hidden, cfg.width)
        self.audio = Stream(AUDIO, cfg.audio, 1, *last)
        self.lips = Stream(LIPS, cfg.lips, 3 * FRAMES, *last)

    def embed_audio(self, cepstrum: Float[Array, "b 13 20"]) -> Float[Array, "b o"]:
        """Vector of 0.2 s of sound."""
        return self.audio(cepstrum[..., None])

    def embed_lips(self, lips: Float[Array, "b 5 H W 3"]) -> Float[Array, "b o"]:
        """Vector of five frames, which lie side by side in the channels (frame slowest)."""
        return self.lips(jnp.moveaxis(lips, 1, 3).reshape(*lips.shape[:1], *lips.shape[2:4], -1))

    def __call__(
        self, cepstrum: Float[Array, "b 13 20"], lips: Float[Array, "b 5 H W 3"]
    ) -> tuple[Float[Array, "b o"], Float[Array, "b o"]]:
        """Both; initialises every parameter."""
        return self.embed_audio(cepstrum), self.embed_lips(lips)


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    cepstrum = jnp.zeros((1, COEFFICIENTS, COLUMNS))
    lips = jnp.zeros((1, FRAMES, PIXELS, PIXELS, 3))
    return meta.unbox(SyncNet(cfg).init(key, cepstrum, lips)["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return SyncNet(cfg).apply({"params": params}, *arguments, method=method)


def embed_audio(
    params: Params, cfg: Config, cepstrum: Float[Array, "b 13 20"]
) -> Float[Array, "b o"]:
    """Vectors of pieces of sound, 0.2 s each."""
    return _run("embed_audio", params, cfg, cepstrum)


def embed_lips(
    params: Params, cfg: Config, lips: Float[Array, "b 5 224 224 3"]
) -> Float[Array, "b o"]:
    """Vectors of pieces of video, five frames each."""
    return _run("embed_lips", params, cfg, lips)
