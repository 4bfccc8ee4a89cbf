"""Causal video autoencoder of Wan2.1: pixels to latents 8x smaller in space and 4x in time.

Frame 0 is an image of its own: it becomes latent frame 0, and every later latent frame is made of
four pixel frames and of what lies before them, never after. The reference runs chunk by chunk with
a cache; a plain evaluation of the whole clip computes the same when frame 0 is treated specially:

    time halved   frame 0 passes untouched; the rest is an unpadded width-3, stride-2 convolution
                  over all frames, frame 0 included
    time doubled  frame 0 passes and is not visible; frames 1.. go through a causal width-3
                  convolution with zero history to 2c channels: first half the earlier frame

Larger clips than memory holds go through in parts (`Pieces`): of time, with the same result, the
frames that a convolution needs of the part before kept in the collection "past"; and in tiles of
the picture. On a mesh a clip is split by its rows; the attention gathers the keys of all of them.

Convolutions over time alone are linear layers on neighbouring frames laid side by side, kernel
[3 c, o] (taps slowest), 1x1 convolutions are linear layers too.

Shapes (letters: ft_jax/typing.py)
    video     [b f H W 3]   -1..1; f = 4 n + 1, H and W multiples of 8
    latents   [b t h w c]   t = n + 1, h = H / 8, w = W / 8; normalised: (z - mean) / std

Source: Wan2.1 vae.py; latents are always the mean of the distribution, except in training.
Tests: tests/models/vae_test.py, tests/models/vae_chunks_test.py, tests/multidevice/vae_test.py,
tests/parity/vae_parity_test.py (diffusers), make goldens.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.errors import UsageError
from ft_jax.models.vae_chunks import Rates, in_chunks
from ft_jax.models.vae_tiles import Tiles, in_tiles
from ft_jax.nn.attention import attention
from ft_jax.nn.conv import Conv
from ft_jax.nn.linear import Linear, lift
from ft_jax.nn.norm import ChannelNorm
from ft_jax.sharding.constrain import constrain
from ft_jax.typing import Params

# Statistics of the released model's latents over its own training data.
_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
_MEAN += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
_STD += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)

_AXES = ("conv_in", "conv_out")
_PAST = "past"  # the collection of variables that a part of a clip leaves to the next one


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the autoencoder; the defaults are the released ones.

    Attributes:
        width: channels at full resolution.
        multipliers: channels of each level as multiples of `width`; space halves between levels.
        blocks: residual blocks of each encoder level; a decoder level has one more.
        channels: latent channels.
        time: after which levels the encoder halves time too; the decoder mirrors it.
        mean: per-channel mean of raw latents, taken off by `encode`.
        std: per-channel standard deviation of raw latents, divided by in `encode`.
    """

    width: int = 96
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    channels: int = 16
    time: tuple[bool, ...] = (False, True, True)
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    @property
    def space_factor(self) -> int:
        """Pixel rows in one latent row."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def time_factor(self) -> int:
        """Pixel frames in one latent frame, except in the first."""
        return 2 ** sum(self.time)


@dataclasses.dataclass(frozen=True)
class Pieces:
    """How much of a clip goes through the network at once: less memory, as much work or more.

    Attributes:
        chunk: latent frames at a time, the same result as whole; 0 is the whole clip.
        tiles: how the picture is cut, which changes the result.

    Raises:
        UsageError: chunk is negative.
    """

    chunk: int = 0
    tiles: Tiles = dataclasses.field(default_factory=Tiles)

    def __post_init__(self) -> None:
        if self.chunk < 0:
            raise UsageError(f"chunk: got {self.chunk}; expected latent frames, or 0 for all")


WHOLE = Pieces()


def recall(module: nn.Module, name: str) -> Float[Array, "b _ h w c"] | None:
    """The frames that `remember` kept of the part before; None in the first part of a clip."""
    return module.get_variable(_PAST, name) if module.has_variable(_PAST, name) else None


def remember(module: nn.Module, name: str, x: Float[Array, "b _ h w c"], frames: int) -> None:
    """Keeps the last `frames` of `x` for the next part, if one follows; zeros before frame 0."""
    if module.is_mutable_collection(_PAST) and not module.is_initializing():
        missing = max(0, frames - x.shape[1])
        last = jnp.pad(x[:, -frames:], ((0, 0), (missing, 0), *((0, 0),) * 3))
        module.put_variable(_PAST, name, last)


def join(past: jax.Array | None, x: Float[Array, "b _ h w c"]) -> Float[Array, "b _ h w c"]:
    """`x` behind the frames of the past, if there are any."""
    return x if past is None else jnp.concatenate([past, x], axis=1)


def by_rows(x: Float[Array, "b f h w c"]) -> Float[Array, "b f h w c"]:
    """Splits a clip by its rows; the compiler adds the exchange of edges to every convolution."""
    return constrain(x, "act_batch", None, "act_rows", None, None)


def causal(
    parent: nn.Module, x: Float[Array, "b f h w c"], outputs: int, name: str
) -> Float[Array, "b f h w o"]:
    """A 3x3x3 convolution that sees the two frames before and none after; zeros before frame 0."""
    past = recall(parent, f"{name}_past")
    padding = ((2 if past is None else 0, 0), (1, 1), (1, 1))
    x = join(past, x)
    remember(parent, f"{name}_past", x, 2)
    return by_rows(Conv(x.shape[-1], outputs, (3, 3, 3), padding=padding, name=name)(x))


class Block(nn.Module):
    """Residual block: twice norm, SiLU, causal convolution."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b f h w o"]:
        """Adds its change to `x` (to a linear map of it where the width changes)."""
        y = nn.silu(ChannelNorm(self.inputs, name="norm_1")(x))
        y = causal(self, y, self.outputs, "conv_1")
        y = nn.silu(ChannelNorm(self.outputs, name="norm_2")(y))
        y = causal(self, y, self.outputs, "conv_2")
        if self.inputs != self.outputs:
            x = Linear(self.inputs, self.outputs, _AXES, name="shortcut")(x)
        return x + y


class FrameAttention(nn.Module):
    """Attention of one head between the positions of each frame."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b f h w c"]:
        """Residual; every frame on its own."""
        y = ChannelNorm(self.width, name="norm")(x)
        y = Linear(self.width, 3 * self.width, _AXES, name="qkv")(y)
        y = y.reshape(x.shape[0] * x.shape[1], -1, 1, 3 * self.width)
        q, k, v = jnp.split(y, 3, axis=-1)
        # Each device keeps its queries and gathers the keys of all rows.
        q = constrain(q, "act_batch", "act_seq", None, None)
        k, v = (constrain(each, "act_batch", None, None, None) for each in (k, v))
        y = attention(q, k, v).reshape(x.shape)
        return x + Linear(self.width, self.width, _AXES, name="out")(y)


class Middle(nn.Module):
    """The lowest resolution: block, attention, block."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b f h w c"]:
        """Keeps the shape."""
        x = Block(self.width, self.width, name="block_0")(x)
        x = FrameAttention(self.width, name="attention")(x)
        return Block(self.width, self.width, name="block_1")(x)


class Down(nn.Module):
    """Halves rows and columns and, with `time`, the frames after the first."""

    width: int
    time: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b f H W c"]) -> Float[Array, "b t h w c"]:
        """Pads one row below and one column to the right, as the reference does."""
        conv = Conv(
            self.width, self.width, (3, 3), strides=2, padding=((0, 1), (0, 1)), name="conv"
        )
        x = per_frame(conv, x)
        if not self.time:
            return x
        taps = Linear(3 * self.width, self.width, _AXES, name="time")
        past = recall(self, "past")
        first = x[:, :1] if past is None else x[:, :0]
        remember(self, "past", x, 1)
        x = join(past, x)
        side_by_side = jnp.concatenate([x[:, 0:-2:2], x[:, 1:-1:2], x[:, 2::2]], axis=-1)
        return jnp.concatenate([first, taps(side_by_side)], axis=1)


class Up(nn.Module):
    """With `time` doubles the frames after the first; doubles rows and columns, halves width."""

    width: int
    time: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b f H W o"]:
        """Nearest neighbour, then a convolution."""
        if self.time:
            x = self._double_time(x)
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        conv = Conv(self.width, self.width // 2, (3, 3), padding=((1, 1), (1, 1)), name="conv")
        return per_frame(conv, x)

    def _double_time(self, x: jax.Array) -> jax.Array:
        taps = Linear(3 * self.width, 2 * self.width, _AXES, name="time")
        past = recall(self, "past")
        first, rest = (x[:, :1], x[:, 1:]) if past is None else (x[:, :0], x)
        before = jnp.zeros_like(x, shape=(x.shape[0], 2, *x.shape[2:])) if past is None else past
        seen = join(before, rest)
        remember(self, "past", seen, 2)
        y = taps(jnp.concatenate([seen[:, :-2], seen[:, 1:-1], rest], axis=-1))
        pairs = jnp.stack(jnp.split(y, 2, axis=-1), axis=2)
        doubled = pairs.reshape(x.shape[0], 2 * rest.shape[1], *x.shape[2:])
        return jnp.concatenate([first, doubled], axis=1)


def per_frame(conv: Conv, x: Float[Array, "b f H W c"]) -> Float[Array, "b f h w o"]:
    """Applies a 2-D convolution to every frame."""
    y = conv(x.reshape(-1, *x.shape[2:]))
    return by_rows(y.reshape(*x.shape[:2], *y.shape[1:]))


class Encoder(nn.Module):
    """Video to the moments of its raw latents."""

    cfg: Config

    @nn.compact
    def __call__(self, x: Float[Array, "b f H W 3"]) -> Float[Array, "b t h w c"]:
        """Returns mean and log-variance side by side, before the last 1x1 layer."""
        cfg = self.cfg
        x = causal(self, x, cfg.width, "stem")
        inputs, levels = cfg.width, len(cfg.multipliers)
        for level, multiplier in enumerate(cfg.multipliers):
            width = cfg.width * multiplier
            for block in range(cfg.blocks):
                x = Block(inputs, width, name=f"level_{level}_block_{block}")(x)
                inputs = width
            if level + 1 < levels:
                x = Down(width, cfg.time[level], name=f"level_{level}_down")(x)
        x = Middle(inputs, name="middle")(x)
        x = nn.silu(ChannelNorm(inputs, name="head_norm")(x))
        return causal(self, x, 2 * cfg.channels, "head")


class Decoder(nn.Module):
    """Raw latents to video."""

    cfg: Config

    @nn.compact
    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b f H W 3"]:
        """The encoder's levels in reverse order, one block more in each."""
        cfg = self.cfg
        inputs, levels = cfg.width * cfg.multipliers[-1], len(cfg.multipliers)
        x = causal(self, x, inputs, "stem")
        x = Middle(inputs, name="middle")(x)
        for level, multiplier in enumerate(reversed(cfg.multipliers)):
            width = cfg.width * multiplier
            for block in range(cfg.blocks + 1):
                x = Block(inputs, width, name=f"level_{level}_block_{block}")(x)
                inputs = width
            if level + 1 < levels:
                x = Up(width, cfg.time[-1 - level], name=f"level_{level}_up")(x)
                inputs = width // 2
        x = nn.silu(ChannelNorm(inputs, name="head_norm")(x))
        return causal(self, x, 3, "head")


class Vae(nn.Module):
    """Encoder and decoder with the 1x1 layers between them; raw latents on both sides."""

    cfg: Config

    def setup(self) -> None:
        """Declares the four parts."""
        width = self.cfg.channels
        self.encoder = Encoder(self.cfg)
        self.moments = Linear(2 * width, 2 * width, _AXES)
        self.entry = Linear(width, width, _AXES)
        self.decoder = Decoder(self.cfg)

    def encode(self, video: Float[Array, "b f H W 3"]) -> Float[Array, "b t h w c"]:
        """Mean and log-variance of the raw latents, side by side."""
        return self.moments(self.encoder(by_rows(video)))

    def decode(self, latents: Float[Array, "b t h w c"]) -> Float[Array, "b f H W 3"]:
        """Video of raw latents."""
        return self.decoder(self.entry(by_rows(latents)))

    def __call__(self, video: Float[Array, "b f H W 3"]) -> Float[Array, "b f H W 3"]:
        """Reconstruction from the mean; initialises every parameter."""
        return self.decode(self.encode(video)[..., : self.cfg.channels])


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    side = cfg.space_factor
    return meta.unbox(Vae(cfg).init(key, jnp.zeros((1, 1, side, side, 3)))["params"])


def _apply(
    method: str, rates: Rates, params: Params, cfg: Config, x: jax.Array, pieces: Pieces
) -> jax.Array:
    """Runs "encode" or "decode" over the pieces of `x`."""
    network = Vae(cfg)

    def whole(x: jax.Array) -> Any:
        return network.apply({"params": params}, x, method=method)

    def step(past: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params} | ({} if past is None else {_PAST: past})
        y, kept = network.apply(variables, x, method=method, mutable=[_PAST])
        return y, kept[_PAST]

    def clip(x: jax.Array) -> jax.Array:
        return in_chunks(step, x, pieces.chunk, rates) if pieces.chunk else whole(x)

    side = cfg.space_factor
    return in_tiles(clip, x, pieces.tiles, (side, 1) if method == "encode" else (1, side))


def encode_distribution(
    params: Params,
    cfg: Config,
    video: Float[Array, "b f H W 3"],
    pieces: Pieces = WHOLE,
) -> tuple[Float[Array, "b t h w c"], Float[Array, "b t h w c"]]:
    """Mean and log-variance of the raw latents (not normalised), for training.

    Raises:
        UsageError: frames are not 4n + 1, or rows or columns not multiples of 8.
    """
    frames, rows, columns = video.shape[1:4]
    if (frames - 1) % cfg.time_factor or rows % cfg.space_factor or columns % cfg.space_factor:
        raise UsageError(
            f"video: {frames} frames of {rows}x{columns}; expected {cfg.time_factor}n + 1 frames "
            f"and rows and columns that are multiples of {cfg.space_factor}"
        )
    moments = _apply("encode", Rates(cfg.time_factor, 1), params, cfg, video, pieces)
    mean, logvar = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(logvar, -30.0, 20.0)


def encode(
    params: Params,
    cfg: Config,
    video: Float[Array, "b f H W 3"],
    pieces: Pieces = WHOLE,
) -> Float[Array, "b t h w c"]:
    """Normalised latents (the mean of the distribution) of a clip in -1..1.

    Raises:
        UsageError: as `encode_distribution`.
    """
    return normalise(cfg, encode_distribution(params, cfg, video, pieces)[0])


def decode(
    params: Params,
    cfg: Config,
    latents: Float[Array, "b t h w c"],
    pieces: Pieces = WHOLE,
) -> Float[Array, "b f H W 3"]:
    """Video of normalised latents; not clamped to -1..1."""
    raw = denormalise(cfg, latents)
    return _apply("decode", Rates(1, cfg.time_factor), params, cfg, raw, pieces)


def normalise(cfg: Config, raw: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """Raw latents to the scale the denoiser works on: (raw - mean) / std."""
    mean, std = (lift(jnp.asarray(values), raw.ndim) for values in (cfg.mean, cfg.std))
    return ((raw - mean) / std).astype(raw.dtype)


def denormalise(cfg: Config, latents: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """The inverse of `normalise`."""
    mean, std = (lift(jnp.asarray(values), latents.ndim) for values in (cfg.mean, cfg.std))
    return (latents * std + mean).astype(latents.dtype)
