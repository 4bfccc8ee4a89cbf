"""Text encoder in the UMT5 layout: token ids in, one row per token out.

Every layer has its own table of relative position biases; attention is not scaled; feed-forward
networks are gated with tanh-GELU; nothing has a bias vector. Rows past the prompt's end are zeros:
that is what the denoiser was trained on.

Two tokenizers: "bytes" (ids of UTF-8 bytes, 3 above their value, as ByT5 numbers them; needs no
file) for the small model, else the folder of a Hugging Face tokenizer (google/umt5-xxl).

Shapes (letters: ft_jax/typing.py)
    ids     int [b s]     0 = padding, 1 = end
    mask    bool [b s]    True = a token of the prompt, the end included
    tokens  [b s cs]

Compiled once a length, so prompts run at the shortest of a few lengths (`LENGTHS`) that holds them:
rows do not depend on the padding behind them, and most prompts fill a tenth of 512 rows.

Source: Wan2.1 t5.py. Tests: tests/models/text_test.py, tests/parity/text_parity_test.py.
"""

import dataclasses
import functools
import html
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import ftfy
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import meta
from jaxtyping import Array, Bool, Float, Int

from ft_jax.errors import UsageError
from ft_jax.nn.embed import Embed
from ft_jax.nn.linear import Linear
from ft_jax.nn.norm import RMSNorm
from ft_jax.typing import Params

BYTES = "bytes"
_PAD, _END, _SPECIAL = 0, 1, 3
_MASKED = -1e30
LENGTHS = (64, 128, 256)  # that prompts run at; what is longer runs at the whole length


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are those of UMT5-XXL.

    Attributes:
        tokenizer: "bytes" or the folder of a tokenizer.
        rows: rows of the token table.
        width: of the residual stream and of a token row.
        layers: Transformer layers.
        heads: attention heads.
        head_width: of one head.
        mlp_width: hidden width of the gated feed-forward networks.
        buckets: relative distances that are told apart (both directions together).
        reach: distance from which on all are one bucket.
        projection: width of the pooled projection for image-text training; 0 = none.
    """

    tokenizer: str
    rows: int = 256384
    width: int = 4096
    layers: int = 24
    heads: int = 64
    head_width: int = 64
    mlp_width: int = 10240
    buckets: int = 32
    reach: int = 128
    projection: int = 0


def clean(prompt: str) -> str:
    """As the released model's prompts were cleaned: what is spelt otherwise is other tokens.

    Mends broken encodings, curled quotes, ligatures and wide letters (ftfy), undoes HTML escapes
    (twice, as scraped captions need) and collapses white space.
    """
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())


def tokenize(cfg: Config, prompts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cleaned prompts -> ids int32 [b length] and mask bool [b length]; longer ones are cut.

    Raises:
        UsageError: the tokenizer's folder cannot be read.
    """
    prompts = [clean(prompt) for prompt in prompts]
    ids = np.full((len(prompts), length), _PAD, np.int32)
    mask = np.zeros((len(prompts), length), bool)
    encode_one = _bytes if cfg.tokenizer == BYTES else _pieces(cfg.tokenizer)
    for row, prompt in enumerate(prompts):
        tokens = [*encode_one(prompt)[: length - 1], _END]
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = True
    return ids, mask


def shortened(
    ids: Int[np.ndarray, "b s"], mask: Bool[np.ndarray, "b s"]
) -> tuple[Int[np.ndarray, "b _"], Bool[np.ndarray, "b _"]]:
    """Ids and mask cut to the shortest of `LENGTHS` that holds every prompt."""
    longest, whole = int(mask.sum(1).max(initial=0)), ids.shape[1]
    length = min([whole, *(length for length in LENGTHS if length >= longest)])
    return ids[:, :length], mask[:, :length]


def _bytes(prompt: str) -> list[int]:
    return [byte + _SPECIAL for byte in prompt.encode("utf-8")]


@functools.cache
def _pieces(folder: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}: no tokenizer ({error}); expected its folder") from None
    return lambda prompt: tokenizer(prompt, add_special_tokens=False).input_ids


def relative_buckets(length: int, buckets: int, reach: int) -> Int[np.ndarray, "l s"]:
    """Bucket of the distance from each query to each key; keys behind it in the upper half.

    Short distances have a bucket each, longer ones share them on a logarithmic scale.
    """
    position = np.arange(length)
    distance = position[None, :] - position[:, None]
    half = buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # Float32, as the reference computes it: at powers of two the last bit decides.
    scaled = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    scaled = scaled / np.float32(math.log(reach / exact)) * np.float32(half - exact)
    long = np.minimum(exact + scaled.astype(np.int32), half - 1)
    return np.where(distance > 0, half, 0) + np.where(size < exact, size, long)


class Layer(nn.Module):
    """Pre-norm layer: self-attention with relative biases, gated feed-forward network."""

    cfg: Config

    @nn.compact
    def __call__(
        self, x: Float[Array, "b s d"], mask: Bool[Array, "b s"]
    ) -> tuple[Float[Array, "b s d"], None]:
        """Keeps the shape; keys that `mask` leaves out are not attended to."""
        cfg = self.cfg
        x = x + self._attend(RMSNorm(cfg.width, name="attention_norm")(x), mask)
        y = RMSNorm(cfg.width, name="mlp_norm")(x)
        up = functools.partial(Linear, cfg.width, cfg.mlp_width, use_bias=False)
        y = nn.gelu(up(name="gate")(y), approximate=True) * up(name="up")(y)
        down = Linear(cfg.mlp_width, cfg.width, ("mlp", "embed"), use_bias=False, name="down")
        return x + down(y), None

    def _attend(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        cfg = self.cfg
        inner = cfg.heads * cfg.head_width
        linear = functools.partial(Linear, cfg.width, inner, ("embed", "heads"), use_bias=False)
        heads = (*x.shape[:2], cfg.heads, cfg.head_width)
        # Scores are not scaled, so the queries start small instead.
        q = linear(initial=(cfg.width * cfg.head_width) ** -0.5, name="query")(x).reshape(heads)
        k, v = (linear(name=name)(x).reshape(heads) for name in ("key", "value"))
        buckets = relative_buckets(x.shape[1], cfg.buckets, cfg.reach)
        bias = Embed(cfg.buckets, cfg.heads, name="distance")(jnp.asarray(buckets))
        scores = jnp.einsum("blnk,bsnk->bnls", q, k, preferred_element_type=jnp.float32)
        scores = scores + bias.astype(jnp.float32).transpose(2, 0, 1)[None]
        weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, _MASKED), axis=-1)
        y = jnp.einsum("bnls,bsnk->blnk", weights.astype(v.dtype), v)
        out = Linear(inner, cfg.width, ("heads", "embed"), use_bias=False, name="out")
        return out(y.reshape(*x.shape[:2], inner))


class Text(nn.Module):
    """Token table, layers, last norm and, where the config asks for one, a pooled projection."""

    cfg: Config

    def setup(self) -> None:
        """Declares all parts."""
        cfg = self.cfg
        self.embed = Embed(cfg.rows, cfg.width, initial=1.0)
        stack = nn.scan(
            Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # type: ignore[arg-type]
            length=cfg.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        self.layers = stack(cfg)
        self.norm = RMSNorm(cfg.width)
        if cfg.projection:
            self.projection = Linear(cfg.width, cfg.projection, use_bias=False)

    def encode(self, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]) -> Float[Array, "b s cs"]:
        """One row per token, zeros where `mask` is False."""
        x = self.norm(self.layers(self.embed(ids), mask)[0])
        return jnp.where(mask[..., None], x, 0.0).astype(x.dtype)

    def pool(self, tokens: Float[Array, "b s cs"], mask: Bool[Array, "b s"]) -> jax.Array:
        """Unit-length projection [b c] of the mean token row."""
        count = jnp.maximum(mask.sum(-1, keepdims=True), 1).astype(tokens.dtype)
        y = self.projection(tokens.sum(1) / count)
        return y * jax.lax.rsqrt(jnp.square(y).sum(-1, keepdims=True) + 1e-12)

    def __call__(self, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]) -> Any:
        """Runs every part once; initialises every parameter."""
        tokens = self.encode(ids, mask)
        return self.pool(tokens, mask) if self.cfg.projection else tokens


def init(key: jax.Array, cfg: Config) -> Params:
    """Random parameters (plain arrays)."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return meta.unbox(Text(cfg).init(key, ids, ids == 0)["params"])


def _run(method: str, params: Params, cfg: Config, *arguments: jax.Array) -> Any:
    return Text(cfg).apply({"params": params}, *arguments, method=method)


def encode(
    params: Params, cfg: Config, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]
) -> Float[Array, "b s cs"]:
    """One row per token; rows past the prompt (mask False) are zeros."""
    return _run("encode", params, cfg, ids, mask)


def pooled(
    params: Params, cfg: Config, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]
) -> Float[Array, "b c"]:
    """Unit-length vector of a prompt, for image-text training (needs `projection`)."""
    return _run("__call__", params, cfg, ids, mask)
