"""Identity: one face embedding in, one more attention term per DiT block out.

A Q-Former turns the embedding of the reference face into a few tokens: learned queries attend to
the embedding and to themselves, `depth` times. Keys and values of all blocks are made from the
tokens and added like the speech branch's, with weight 0.5.

  embedding  [b ce]     unit length, from the face encoder
  tokens     [b e c]    e = `queries`, c = `token_width`
  returns    Term       keys and values [layers b e n k], scale = weight * scale

Key and value kernels start at zero, so that at step 0 the network equals the base model.

Source: FantasyTalking sec. 3.3 (layout and sizes of the Q-Former: docs of the decisions, as the
paper is silent; it is the resampler of IP-Adapter). Tests: tests/models/identity_test.py.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ft_jax.models.term import Term, make_term, stacked_linear
from ft_jax.nn.attention import attention
from ft_jax.nn.learned import Learned
from ft_jax.nn.linear import Linear
from ft_jax.nn.norm import LayerNorm


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the identity branch."""

    embedding_width: int = 512
    queries: int = 16
    width: int = 1280
    depth: int = 4
    heads: int = 20
    token_width: int = 2048
    weight: float = 0.5  # lambda_2 of the paper
    projected: bool = True  # False: added after the output projection of the cross-attention


class QFormerLayer(nn.Module):
    """Queries attend to the face and to themselves, then a feed-forward network of four widths."""

    cfg: Config

    @nn.compact
    def __call__(
        self, queries: Float[Array, "b e d"], face: Float[Array, "b s d"]
    ) -> Float[Array, "b e d"]:
        """Pre-norm residual layer."""
        cfg = self.cfg
        norm = functools.partial(LayerNorm, cfg.width, 1e-5)
        linear = functools.partial(Linear, use_bias=False)
        heads = (cfg.heads, cfg.width // cfg.heads)
        x = norm(name="norm_query")(queries)
        context = jnp.concatenate([norm(name="norm_face")(face), x], axis=1)
        projected = (
            linear(cfg.width, cfg.width, ("embed", "heads"), name=name)(y)
            for name, y in (("query", x), ("key", context), ("value", context))
        )
        query, key, value = (y.reshape(*y.shape[:2], *heads) for y in projected)
        out = attention(query, key, value)
        out = out.reshape(queries.shape)
        queries = queries + linear(cfg.width, cfg.width, ("heads", "embed"), name="output")(out)
        x = linear(cfg.width, 4 * cfg.width, ("embed", "mlp"), name="mlp_hidden")(
            norm(name="norm_mlp")(queries)
        )
        x = jax.nn.gelu(x, approximate=False)
        return queries + linear(4 * cfg.width, cfg.width, ("mlp", "embed"), name="mlp_output")(x)


class IdentityBranch(nn.Module):
    """Q-Former, and keys and values of all blocks."""

    cfg: Config
    layers: int
    heads: int
    width: int
    dtype: Any

    def setup(self) -> None:
        """Declares the Q-Former, in float32, and the zero kernels."""
        cfg = self.cfg
        self.queries = Learned((cfg.queries, cfg.width), (None, "embed"), cfg.width**-0.5)
        self.input = Linear(cfg.embedding_width, cfg.width, ("context_embed", "embed"))
        self.qformer = [QFormerLayer(cfg) for _ in range(cfg.depth)]
        self.output = Linear(cfg.width, cfg.token_width, ("embed", "context_embed"))
        self.norm = LayerNorm(cfg.token_width, 1e-5)
        self.key = stacked_linear(self.layers, cfg.token_width, self.width, self.dtype)
        self.value = stacked_linear(self.layers, cfg.token_width, self.width, self.dtype)

    def tokens(self, embedding: Float[Array, "b ce"]) -> Float[Array, "b e c"]:
        """Identity tokens. A unit vector is brought to unit variance per channel first."""
        cfg = self.cfg
        embedding = embedding.astype(jnp.float32) * cfg.embedding_width**0.5
        face = self.input(embedding)[:, None]
        queries = jnp.broadcast_to(self.queries(), (face.shape[0], cfg.queries, cfg.width))
        for layer in self.qformer:
            queries = layer(queries, face)
        return self.norm(self.output(queries))

    def __call__(self, embedding: Float[Array, "b ce"], scale: Float[Array, " b"]) -> Term:
        """The term every block adds; `scale` 0 drops the identity of a sample."""
        tokens = self.tokens(embedding)
        scale = self.cfg.weight * jnp.asarray(scale, jnp.float32)
        return make_term(
            self.key(tokens), self.value(tokens), self.heads, scale, projected=self.cfg.projected
        )
