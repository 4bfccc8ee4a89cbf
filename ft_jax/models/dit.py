"""Wan2.1 video diffusion transformer: noisy latents and conditions in, velocity out.

The base model of FantasyTalking, kept frozen there. Every published variant and our mini model are
this module with other sizes (configs/models.py); `image_width=None` is a text-to-video model.

  latents     [b t h w c]     noisy latents; h and w are multiples of the patch
  timestep    [b]             1000 * sigma, not rounded
  condition   [b t h w c]     latents of [first frame, then grey]; a 4-channel mask that is 1 on
                              latent frame 0 is put before them, unless they bring their own
  text        [b s cs]        text tokens, padded with zero rows to `text_tokens`
  image       [b i ci]        image tokens
  time_offset [b d]           added to the time embedding (motion intensities); or [b 6d], added to
                              the six vectors that are projected from it
  terms                       further keys and values for the cross-attention, see term.py
  returns     [b t h w c]     velocity = noise - clean latents

Tokens are space-major, (h w) t: token = position * frames + frame, so that a shard of positions
keeps all frames of each and with them its audio windows. Attention does not care about the order;
positions enter through the rotary table, which is built in the same order.

Precision by name: `parity` is float32 throughout (set the matmul precision to "highest" outside);
`bf16` has bf16 matmuls and attention, and float32 norms, modulation, time path, head and, by
default, residual stream.

Stacked blocks: parameters carry a leading axis of `layers`. `scan=False` unrolls the same stacked
parameters. Text and image keys are computed in the block from the embedded tokens, or once per
request by `cache_context`.

Source: Wan2.1 wan/modules/model.py.
Tests: tests/models/dit_test.py, tests/parity/dit_parity_test.py, benchmarks/goldens_dit.py.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from ft_jax.errors import UsageError
from ft_jax.models.remat import BLOCK_INPUT, CONTEXT_KEYS, REMAT_POLICIES
from ft_jax.models.term import Hearing, Keys, Term, add_term, attend
from ft_jax.nn.attention import attention
from ft_jax.nn.embed import timestep_sinusoid
from ft_jax.nn.learned import Learned
from ft_jax.nn.linear import Linear
from ft_jax.nn.norm import LayerNorm, RMSNorm
from ft_jax.nn.rope import Table, apply_rope, rope_table
from ft_jax.sharding.constrain import constrain

MASK_CHANNELS = 4  # the pixel frames that one latent frame stands for
TOKEN_AXES = ("act_batch", "act_seq", "act_embed")
CONTEXT_AXES = ("act_batch", "act_context", "act_embed")
HEAD_AXES = ("act_batch", "act_seq", "act_heads", "act_head_dim")
KEY_AXES = ("act_batch", "act_context", "act_heads", "act_head_dim")
PRECISIONS = {"parity": jnp.float32, "bf16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes and execution of one DiT; defaults are Wan2.1-I2V-14B."""

    width: int = 5120
    layers: int = 40
    heads: int = 40
    mlp_width: int = 13824
    latent_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    frequency_width: int = 256
    text_width: int = 4096
    text_tokens: int = 512
    image_width: int | None = 1280  # None: text-to-video, no image tokens and no condition latents
    eps: float = 1e-6
    precision: str = "bf16"  # parity | bf16
    residual: str = "float32"  # float32 | bfloat16; type of the residual stream under bf16
    scan: bool = True  # False: blocks unrolled
    remat: str = "none"  # a key of REMAT_POLICIES (ft_jax/models/remat.py)

    def __post_init__(self) -> None:
        for name, options in (
            ("precision", PRECISIONS),
            ("remat", REMAT_POLICIES),
            ("residual", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in options:
                got = getattr(self, name)
                raise UsageError(f"dit.{name}: got {got!r}; expected one of {sorted(options)}")
        if self.width % self.heads:
            raise UsageError(f"dit.heads: {self.heads} does not divide dit.width {self.width}")

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def input_channels(self) -> int:
        """Of noisy latents with, for image-to-video, condition latents and their mask."""
        channels = self.latent_channels
        return channels if self.image_width is None else 2 * channels + MASK_CHANNELS

    @property
    def dtype(self) -> Any:
        """Type of matmuls and attention."""
        return PRECISIONS[self.precision]

    @property
    def residual_dtype(self) -> Any:
        """Type of the residual stream."""
        return jnp.float32 if self.precision == "parity" else jnp.dtype(self.residual)


@struct.dataclass
class Context:
    """Embedded text and image tokens that every block makes its keys and values of."""

    text: Float[Array, "b s d"]
    image: Float[Array, "b i d"] | None


@struct.dataclass
class ContextCache:
    """The keys and values themselves, of all blocks (layers) or of one."""

    text: Keys
    image: Keys | None


@struct.dataclass
class Shared:
    """What every block is given alike."""

    time: Float[Array, "b 6 d"]
    rope: Table
    context: Context | None  # None where the keys are cached
    hearing: tuple[Hearing, ...]  # one per term


@struct.dataclass
class Own:
    """What each block is given its own slice of: leading axis `layers` outside the scan."""

    cache: ContextCache | None
    terms: tuple[Keys, ...]


def split_heads(x: Float[Array, "b l d"], heads: int) -> Float[Array, "b l {heads} k"]:
    """[b l d] -> [b l n k]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def modulate(
    x: Float[Array, "b l d"], shift: Float[Array, "b 1 d"], scale: Float[Array, "b 1 d"]
) -> Float[Array, "b l d"]:
    """Scales by 1 + scale and shifts, in float32."""
    return x.astype(jnp.float32) * (1.0 + scale) + shift


class SelfAttention(nn.Module):
    """All video tokens with each other; rotary positions; RMS-normed queries and keys."""

    cfg: Config

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], rope: Table) -> Float[Array, "b l d"]:
        """Takes normalised and modulated tokens; the result is to be gated."""
        cfg = self.cfg
        linear = functools.partial(Linear, cfg.width, cfg.width, dtype=cfg.dtype)
        query = RMSNorm(cfg.width, cfg.eps, name="norm_query")(
            linear(("embed", "heads"), name="query")(x)
        )
        key = RMSNorm(cfg.width, cfg.eps, name="norm_key")(
            linear(("embed", "heads"), name="key")(x)
        )
        value = linear(("embed", "heads"), name="value")(x)
        query, key, value = (split_heads(y, cfg.heads) for y in (query, key, value))
        query, key = apply_rope(query, rope), apply_rope(key, rope)
        query, key, value = (constrain(y, *HEAD_AXES) for y in (query, key, value))
        out = attention(query, key, value, keys="act_seq")
        return linear(("heads", "embed"), name="output")(out.reshape(x.shape))


class CrossAttention(nn.Module):
    """Text, image and the terms of the branches, each with its own softmax, summed, projected."""

    cfg: Config

    def setup(self) -> None:
        """Declares the projections; image keys only where the model has image tokens."""
        cfg = self.cfg
        linear = functools.partial(Linear, cfg.width, cfg.width, dtype=cfg.dtype)
        self.query, self.norm_query = linear(("embed", "heads")), RMSNorm(cfg.width, cfg.eps)
        self.key, self.norm_key = linear(("embed", "heads")), RMSNorm(cfg.width, cfg.eps)
        self.value = linear(("embed", "heads"))
        self.output = linear(("heads", "embed"))
        if cfg.image_width is not None:
            self.image_key = linear(("embed", "heads"))
            self.norm_image_key = RMSNorm(cfg.width, cfg.eps)
            self.image_value = linear(("embed", "heads"))

    def keys(self, context: Context) -> ContextCache:
        """Keys and values of this block."""
        split = lambda x: constrain(split_heads(x, self.cfg.heads), *KEY_AXES)  # noqa: E731
        key = self.norm_key(self.key(context.text))
        text = Keys(split(key), split(self.value(context.text)))
        if context.image is None:
            return ContextCache(text, None)
        key = self.norm_image_key(self.image_key(context.image))
        return ContextCache(text, Keys(split(key), split(self.image_value(context.image))))

    def __call__(self, x: Float[Array, "b l d"], shared: Shared, own: Own) -> Float[Array, "b l d"]:
        """Takes normalised tokens; keys come from the cache, else from the embedded context."""
        cache = own.cache
        if cache is None:
            if shared.context is None:
                raise ValueError("context: neither embedded nor cached")
            cache = checkpoint_name(self.keys(shared.context), CONTEXT_KEYS)
        query = split_heads(self.norm_query(self.query(x)), self.cfg.heads)
        query = constrain(query, *HEAD_AXES)
        total = attend(query, cache.text, None)
        if cache.image is not None:
            total = total + attend(query, cache.image, None)
        terms = list(zip(own.terms, shared.hearing, strict=True))
        for keys, hearing in terms:
            if hearing.projected:
                total = add_term(total, query, keys, hearing)
        out = self.output(total.reshape(x.shape))
        for keys, hearing in terms:
            if not hearing.projected:
                parts = split_heads(out, self.cfg.heads)
                out = add_term(parts, query, keys, hearing).reshape(x.shape)
        return out


class Mlp(nn.Module):
    """Two linear maps with the tanh form of GELU between them."""

    inputs: int
    hidden_width: int
    outputs: int
    dtype: Any
    initial: str | float = "lecun"
    tokens: str = "act_seq"  # logical axis of what it runs over

    @nn.compact
    def __call__(self, x: Float[Array, "b l c"]) -> Float[Array, "b l o"]:
        """Over the last axis."""
        widths = (self.inputs, self.hidden_width, self.outputs)
        hidden = Linear(
            *widths[:2], ("embed", "mlp"), initial=self.initial, dtype=self.dtype, name="hidden"
        )(x)
        hidden = constrain(hidden, "act_batch", self.tokens, "act_mlp")
        hidden = jax.nn.gelu(hidden, approximate=True)
        return Linear(
            *widths[1:], ("mlp", "embed"), initial=self.initial, dtype=self.dtype, name="output"
        )(hidden)


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward network around the residual stream."""

    cfg: Config

    def setup(self) -> None:
        """Declares the parts; only the norm before the cross-attention has parameters."""
        cfg = self.cfg
        self.modulation = Learned((6, cfg.width), (None, "norm"), cfg.width**-0.5)
        self.norm_self = LayerNorm(cfg.width, cfg.eps, affine=False)
        self.self_attention = SelfAttention(cfg)
        self.norm_cross = LayerNorm(cfg.width, cfg.eps)
        self.cross_attention = CrossAttention(cfg)
        self.norm_mlp = LayerNorm(cfg.width, cfg.eps, affine=False)
        self.mlp = Mlp(cfg.width, cfg.mlp_width, cfg.width, cfg.dtype)

    def keys(self, carry: None, context: Context) -> tuple[None, ContextCache]:
        """The block's context keys, in the form `nn.scan` wants."""
        return carry, self.cross_attention.keys(context)

    def __call__(
        self, x: Float[Array, "b l d"], shared: Shared, own: Own
    ) -> tuple[Float[Array, "b l d"], None]:
        """One step of the residual stream, in the form `nn.scan` wants."""
        x = checkpoint_name(x, BLOCK_INPUT)
        rows = self.modulation()[None] + shared.time
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = jnp.split(rows, 6, axis=1)
        out = self.self_attention(modulate(self.norm_self(x), shift_a, scale_a), shared.rope)
        x = (x + gate_a * out).astype(x.dtype)
        x = (x + self.cross_attention(self.norm_cross(x), shared, own)).astype(x.dtype)
        out = self.mlp(modulate(self.norm_mlp(x), shift_m, scale_m))
        x = (x + gate_m * out).astype(x.dtype)
        return constrain(x, *TOKEN_AXES), None


def stacked_blocks(cfg: Config) -> type[nn.Module]:
    """`Block` scanned over its leading parameter axis, rematerialised as the config says."""
    block = Block
    if (policy := REMAT_POLICIES[cfg.remat]) is not None:
        block = nn.remat(Block, policy=policy, prevent_cse=not cfg.scan, methods=["__call__"])
    settings = {
        "variable_axes": {"params": 0, "lora": 0},
        "split_rngs": {"params": True},
        "length": cfg.layers,
        "unroll": 1 if cfg.scan else cfg.layers,
        "metadata_params": {nn.PARTITION_NAME: "layers"},
    }
    return nn.scan(
        block,
        methods={
            "__call__": {**settings, "in_axes": (nn.broadcast, 0)},
            "keys": {**settings, "in_axes": (nn.broadcast,)},
        },
    )


class ImageEmbedding(nn.Module):
    """Image tokens -> model width. Unlike the rest: erf GELU, and norms with eps 1e-5."""

    cfg: Config

    @nn.compact
    def __call__(self, image: Float[Array, "b i ci"]) -> Float[Array, "b i d"]:
        """Norm, linear, GELU, linear, norm."""
        cfg, inputs = self.cfg, self.cfg.image_width
        assert inputs is not None
        linear = functools.partial(Linear, inputs, dtype=cfg.dtype)
        x = LayerNorm(inputs, 1e-5, name="norm_in")(image.astype(jnp.float32))
        x = linear(inputs, ("context_embed", "mlp"), name="hidden")(x)
        x = linear(cfg.width, ("mlp", "embed"), name="output")(jax.nn.gelu(x, approximate=False))
        return LayerNorm(cfg.width, 1e-5, name="norm_out")(x.astype(jnp.float32))


class TimeEmbedding(nn.Module):
    """Timestep -> e [b d], the vector that the motion intensities are added to; float32."""

    cfg: Config

    @nn.compact
    def __call__(self, timestep: Float[Array, " b"]) -> Float[Array, "b d"]:
        """Sinusoid, linear, SiLU, linear."""
        cfg = self.cfg
        x = timestep_sinusoid(timestep, cfg.frequency_width)
        x = Linear(cfg.frequency_width, cfg.width, initial=0.02, name="hidden")(x)
        return Linear(cfg.width, cfg.width, ("mlp", "embed"), initial=0.02, name="output")(
            jax.nn.silu(x)
        )


class Head(nn.Module):
    """Tokens -> the latents of their patches; modulated by e itself, in float32."""

    cfg: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], time: Float[Array, "b d"]
    ) -> Float[Array, "b l o"]:
        """Lanes of a token are in the order (pt ph pw c)."""
        cfg = self.cfg
        table = Learned((2, cfg.width), (None, "norm"), cfg.width**-0.5, name="modulation")()
        shift, scale = jnp.split(table[None] + time[:, None], 2, axis=1)
        x = modulate(LayerNorm(cfg.width, cfg.eps, affine=False)(x), shift, scale)
        lanes = cfg.patch[0] * cfg.patch[1] * cfg.patch[2] * cfg.latent_channels
        return Linear(cfg.width, lanes, ("embed", "mlp"), initial="zeros", name="output")(x)


def patchify(x: Float[Array, "b t h w c"], patch: tuple[int, int, int]) -> Float[Array, "b l d"]:
    """Tokens in the order (h w) t; lanes of a token in the order (c pt ph pw)."""
    (b, t, h, w, c), (pt, ph, pw) = x.shape, patch
    x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    x = x.transpose(0, 3, 5, 1, 7, 2, 4, 6)
    return x.reshape(b, -1, c * pt * ph * pw)


def unpatchify(
    x: Float[Array, "b l d"], grid: tuple[int, int, int], patch: tuple[int, int, int]
) -> Float[Array, "b t h w c"]:
    """The inverse of the token order of `patchify`, for lanes in the order (pt ph pw c).

    Args:
      x: Tokens in the order (h w) t.
      grid: Tokens in time, rows, columns.
      patch: Latents of a token in time, rows, columns.
    """
    (t, h, w), (pt, ph, pw) = grid, patch
    x = x.reshape(x.shape[0], h, w, t, pt, ph, pw, -1)
    x = x.transpose(0, 3, 4, 1, 5, 2, 6, 7)
    return x.reshape(x.shape[0], t * pt, h * ph, w * pw, -1)


def with_mask(condition: Float[Array, "b t h w c"]) -> Float[Array, "b t h w _"]:
    """Condition latents behind the mask that says which frames they show: latent frame 0."""
    mask = jnp.zeros((*condition.shape[:-1], MASK_CHANNELS), condition.dtype)
    return jnp.concatenate([mask.at[:, 0].set(1), condition], axis=-1)


class DiT(nn.Module):
    """The whole network; see the head of this file."""

    cfg: Config

    def setup(self) -> None:
        """Declares the parts, in the order data passes them."""
        cfg = self.cfg
        if cfg.image_width is not None:
            self.image_embedding = ImageEmbedding(cfg)
        lanes = cfg.input_channels * cfg.patch[0] * cfg.patch[1] * cfg.patch[2]
        self.patch_embedding = Linear(lanes, cfg.width, ("conv_in", "embed"), dtype=cfg.dtype)
        self.text_embedding = Mlp(
            cfg.text_width, cfg.width, cfg.width, cfg.dtype, 0.02, "act_context"
        )
        self.time_embedding = TimeEmbedding(cfg)
        self.time_projection = Linear(cfg.width, 6 * cfg.width, ("embed", "mlp"))
        self.blocks = stacked_blocks(cfg)(cfg)
        self.head = Head(cfg)

    def embed_context(
        self, text: Float[Array, "b s cs"], image: Float[Array, "b i ci"] | None
    ) -> Context:
        """Text rows are filled up with zeros to `text_tokens`; those rows are attended to."""
        cfg = self.cfg
        text = jnp.pad(text, ((0, 0), (0, cfg.text_tokens - text.shape[1]), (0, 0)))
        text = constrain(self.text_embedding(text), *CONTEXT_AXES)
        if cfg.image_width is None:
            return Context(text, None)
        if image is None:
            raise ValueError("image tokens: None; this model needs them")
        return Context(text, constrain(self.image_embedding(image), *CONTEXT_AXES))

    def cache_context(self, context: Context) -> ContextCache:
        """Keys and values of all blocks: what does not depend on the noise level."""
        return self.blocks.keys(None, context)[1]

    def __call__(
        self,
        latents: Float[Array, "b t h w c"],
        timestep: Float[Array, " b"],
        condition: Float[Array, "b t h w _"] | None,
        context: Context | ContextCache,
        time_offset: Float[Array, "b _"] | None = None,
        terms: tuple[Term, ...] = (),
    ) -> Float[Array, "b t h w c"]:
        """Velocity in float32; `context` from `embed_context` or `cache_context`."""
        cfg = self.cfg
        grid = self._grid(latents)
        if cfg.image_width is not None:
            if condition is None:
                raise ValueError("condition latents: None; this model needs them")
            if condition.shape[-1] == cfg.latent_channels:
                condition = with_mask(condition)
            latents = jnp.concatenate([latents, condition], axis=-1)
        x = self.patch_embedding(patchify(latents, cfg.patch)).astype(cfg.residual_dtype)
        x = constrain(x, *TOKEN_AXES)
        time = self.time_embedding(timestep)
        if time_offset is not None and time_offset.shape[-1] == cfg.width:
            time, time_offset = time + time_offset, None
        rows = self.time_projection(jax.nn.silu(time))
        if time_offset is not None:
            rows = rows + time_offset
        rows = rows.reshape(-1, 6, cfg.width)
        rope = rope_table(*grid, cfg.head_width)
        is_cached = isinstance(context, ContextCache)
        shared = Shared(
            rows, rope, None if is_cached else context, tuple(term.hearing for term in terms)
        )
        own = Own(context if is_cached else None, tuple(term.keys for term in terms))
        x, _ = self.blocks(x, shared, own)
        return unpatchify(self.head(x, time), grid, cfg.patch)

    def _grid(self, latents: jax.Array) -> tuple[int, int, int]:
        sizes = latents.shape[1:4]
        for name, size, patch in zip(("t", "h", "w"), sizes, self.cfg.patch, strict=True):
            if size % patch:
                raise UsageError(f"latents: {name} is {size}; expected a multiple of {patch}")
        t, h, w = (size // patch for size, patch in zip(sizes, self.cfg.patch, strict=True))
        return t, h, w
