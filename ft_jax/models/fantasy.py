"""The assembled denoiser: Figure 2 of the paper.

    picture ---- video codec --- condition latents --+
    picture ---- image encoder - image tokens -------+   frozen: dit
    prompt ----- text encoder -- text tokens --------+
    speech ----- speech encoder  features -> projector -> keys, values of every block   audio
    face ------- face encoder -- embedding -> Q-Former -> keys, values of every block   identity
    intensities  omega_l, omega_b -> motion network ---> + time embedding               motion

The parameter tree is API: its top keys are `dit` (the frozen base), `audio`, `identity` and
`motion` (trained), and `lora` where the base has a low-rank change (lora.py). With the zero kernels
that the branches and that change start with, the result equals the base model's bit for bit.

A condition that is None is not computed, and neither is a branch whose config is None. Audio
features may have fewer rows than the latents: the first rows of the batch hear them (`for_guidance`
lays the guidance branches out that way).

What does not depend on the noise level is `prepare`d once per request:

    prepared = prepare(params, cfg, conditions, windows)            # once
    velocity = denoise(params, cfg, latents, sigma, prepared)       # every step

Tests: tests/models/fantasy_test.py, benchmarks/goldens_dit.py.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from flax.core import meta
from jaxtyping import Array, Float

from ft_jax.models import audio, dit, identity, lora, motion
from ft_jax.models.audio import Silence
from ft_jax.models.lora import Config as Lora
from ft_jax.models.motion import NEUTRAL
from ft_jax.models.term import AudioWindows, Term
from ft_jax.typing import Params


@dataclasses.dataclass(frozen=True)
class Config:
    """The base model and its branches; a branch that is None does not exist."""

    dit: dit.Config
    audio: audio.Config | None
    identity: identity.Config | None
    motion: motion.Config | None
    lora: Lora | None = None  # weights of before there was one say nothing of it


@struct.dataclass
class Conditions:
    """Everything the network is told besides the noisy latents; one row a sample.

    Attributes:
      condition_latents: Normalised latents of [first frame, then grey], which may bring their mask
        (`dit.with_mask`); None for text-to-video.
      image_tokens: Penultimate tokens of the image encoder; None for text-to-video.
      text_tokens: Rows beyond the prompt are zero.
      audio_features: Last hidden state of the speech encoder; None: the branch is not computed.
      identity: Unit-length face embedding; None: the branch is not computed.
      expression: omega_l in [0, 1]; 0.5 is neutral. None: the motion network is not computed.
      body: omega_b, likewise.
      image_scale: 1 = on, 0 = image tokens dropped; multiplies the tokens.
      audio_scale: 1 = on, 0 = silent; multiplies the attention term, or the features.
      identity_scale: 1 = on, 0 = dropped; multiplies the attention term.
    """

    condition_latents: Float[Array, "b t h w _"] | None
    image_tokens: Float[Array, "b i ci"] | None
    text_tokens: Float[Array, "b s cs"]
    audio_features: Float[Array, "b a ca"] | None = None
    identity: Float[Array, "b ce"] | None = None
    expression: Float[Array, " b"] | None = None
    body: Float[Array, " b"] | None = None
    image_scale: Float[Array, " b"] | None = None
    audio_scale: Float[Array, " b"] | None = None
    identity_scale: Float[Array, " b"] | None = None


@struct.dataclass
class Prepared:
    """Conditions as the blocks take them: nothing here depends on the noise level."""

    condition_latents: Float[Array, "b t h w _"] | None
    context: dit.Context | dit.ContextCache
    time_offset: Float[Array, "b _"] | None
    terms: tuple[Term, ...]


class FantasyTalking(nn.Module):
    """The network as a module; the functions below are its everyday face."""

    cfg: Config

    def setup(self) -> None:
        """Declares the base model and the branches that exist."""
        cfg, base = self.cfg, self.cfg.dit
        sizes: dict[str, Any] = {
            "layers": base.layers,
            "heads": base.heads,
            "width": base.width,
            "dtype": base.dtype,
        }
        self.dit = dit.DiT(base)
        if cfg.audio is not None:
            self.audio = audio.AudioBranch(cfg.audio, **sizes)
        if cfg.identity is not None:
            self.identity = identity.IdentityBranch(cfg.identity, **sizes)
        if cfg.motion is not None:
            self.motion = motion.MotionNetwork(cfg.motion, base.width)

    def prepare(
        self, conditions: Conditions, windows: AudioWindows | None = None, cache: bool = False
    ) -> Prepared:
        """Runs everything that is the same at all noise levels.

        Args:
          conditions: One row a sample.
          windows: None: clip mode. Else the window of each latent frame.
          cache: Also make the text and image keys of all blocks, for many steps over one request.
        """
        cfg, given = self.cfg, conditions
        image = given.image_tokens
        if image is not None:
            image = image * _scale(given.image_scale, image).astype(image.dtype)[:, None, None]
        context: Any = self.dit.embed_context(given.text_tokens, image)
        if cache:
            context = self.dit.cache_context(context)
        terms = []
        if cfg.audio is not None and given.audio_features is not None:
            features, scale = given.audio_features, _scale(given.audio_scale, given.audio_features)
            if cfg.audio.silence == "zeros":
                features = features * scale.astype(features.dtype)[:, None, None]
                scale = jnp.ones_like(scale)
            terms.append(self.audio(features, scale, windows))
        if cfg.identity is not None and given.identity is not None:
            scale = _scale(given.identity_scale, given.identity)
            terms.append(self.identity(given.identity, scale))
        offset = None
        if cfg.motion is not None and given.expression is not None and given.body is not None:
            offset = self.motion(given.expression, given.body)
        return Prepared(given.condition_latents, context, offset, tuple(terms))

    def denoise(
        self,
        latents: Float[Array, "b t h w c"],
        sigma: Float[Array, " b"],
        prepared: Prepared,
    ) -> Float[Array, "b t h w c"]:
        """Velocity = noise - clean latents, in float32."""
        return self.dit(
            latents,
            1000.0 * sigma.astype(jnp.float32),
            prepared.condition_latents,
            prepared.context,
            prepared.time_offset,
            prepared.terms,
        )

    def __call__(
        self,
        latents: Float[Array, "b t h w c"],
        sigma: Float[Array, " b"],
        conditions: Conditions,
        windows: AudioWindows | None = None,
    ) -> Float[Array, "b t h w c"]:
        """Both of the above; windows None = clip mode."""
        return self.denoise(latents, sigma, self.prepare(conditions, windows))


def _scale(scale: jax.Array | None, like: jax.Array) -> jax.Array:
    return jnp.ones(like.shape[0], jnp.float32) if scale is None else scale


def placeholders(cfg: Config) -> tuple[jax.Array, jax.Array, Conditions]:
    """The smallest inputs that reach every parameter: latents, sigma, conditions."""
    base, one = cfg.dit, jnp.zeros(1)
    latents = jnp.zeros((1, *base.patch, base.latent_channels))
    is_image = base.image_width is not None
    conditions = Conditions(
        condition_latents=latents if is_image else None,
        image_tokens=jnp.zeros((1, 1, base.image_width)) if is_image else None,
        text_tokens=jnp.zeros((1, 1, base.text_width)),
        audio_features=jnp.zeros((1, 1, cfg.audio.feature_width)) if cfg.audio else None,
        identity=jnp.zeros((1, cfg.identity.embedding_width)) if cfg.identity else None,
        expression=one,
        body=one,
    )
    return latents, one, conditions


def _boxed(cfg: Config, key: jax.Array) -> Any:
    made = FantasyTalking(cfg).init(key, *placeholders(cfg))["params"]
    return made if cfg.lora is None else {**made, "lora": lora.init(cfg.lora, made["dit"], key)}


def init(cfg: Config, key: jax.Array) -> Params:
    """Fresh parameters in float32: random base, branches whose effect is zero."""
    return meta.unbox(_boxed(cfg, key))


@functools.lru_cache(maxsize=64)  # every plan of a run asks for it, and tracing takes a second
def abstract_params(cfg: Config) -> Params:
    """Shapes of all parameters, in the boxes that carry their logical axes; no memory.

    `flax.core.meta.unbox` gives bare shapes, `ft_jax.sharding.constrain.shardings` their shardings.
    """
    return jax.eval_shape(lambda: _boxed(cfg, jax.random.key(0)))


def apply(
    params: Params,
    cfg: Config,
    latents: Float[Array, "b t h w c"],
    sigma: Float[Array, " b"],
    conditions: Conditions,
    windows: AudioWindows | None = None,
) -> Float[Array, "b t h w c"]:
    """Velocity; `params` may lack the branches whose conditions are None."""
    with _precision(cfg):
        return _run(cfg, params, "__call__", latents, sigma, conditions, windows)


def prepare(
    params: Params,
    cfg: Config,
    conditions: Conditions,
    windows: AudioWindows | None = None,
    cache: bool = True,
) -> Prepared:
    """What is the same at all noise levels, once per request."""
    with _precision(cfg):
        return _run(cfg, params, "prepare", conditions, windows, cache)


def denoise(
    params: Params,
    cfg: Config,
    latents: Float[Array, "b t h w c"],
    sigma: Float[Array, " b"],
    prepared: Prepared,
) -> Float[Array, "b t h w c"]:
    """Velocity from prepared conditions; equals `apply`."""
    with _precision(cfg):
        return _run(cfg, params, "denoise", latents, sigma, prepared)


def _run(cfg: Config, params: Params, method: str, *inputs: Any) -> Any:
    variables = {"params": params}
    if cfg.lora is not None:
        variables = {
            "params": {name: tree for name, tree in params.items() if name != "lora"},
            "lora": {"dit": lora.scaled(cfg.lora, lora.of(params))},
        }
    return FantasyTalking(cfg).apply(variables, *inputs, method=method)


def _precision(cfg: Config) -> Any:
    # Float32 matmuls run at reduced precision on accelerators unless they are told not to.
    return jax.default_matmul_precision("highest" if cfg.dit.precision == "parity" else None)


def for_guidance(
    conditions: Conditions,
    negative_text: Float[Array, "b s cs"] | None,
    identity: bool = True,
    motion: bool = True,
    silence: Silence = "muted",
) -> Conditions:
    """One batch for the guidance branches: [full, text only, unconditional].

    The rows that hear speech come first and, muted ones computing nothing, alone carry audio
    features. The image is the same in all branches.

    Args:
      conditions: b rows.
      negative_text: Text of the unconditional branch; None (text guidance 1) leaves it out.
      identity: Whether the unconditional branch knows the face; else its term is 0 there.
      motion: Whether it knows the intensities; else they are neutral there.
      silence: What the branches without speech hear, as `audio.Config.silence`.

    Returns:
      Conditions of 3b rows, or 2b.
    """
    copies = 2 if negative_text is None else 3
    stacked = jax.tree.map(
        lambda x: jnp.concatenate([x] * copies),
        dataclasses.replace(conditions, audio_features=None, audio_scale=None),
    )
    text = [conditions.text_tokens] * 2 + ([] if negative_text is None else [negative_text])
    last = jnp.arange(len(stacked.text_tokens)) >= 2 * len(conditions.text_tokens)
    if stacked.identity is not None and not identity:
        scale = _scale(stacked.identity_scale, stacked.identity)
        stacked = dataclasses.replace(stacked, identity_scale=jnp.where(last, 0.0, scale))
    if stacked.expression is not None and stacked.body is not None and not motion:
        expression, body = (
            jnp.where(last, NEUTRAL, each) for each in (stacked.expression, stacked.body)
        )
        stacked = dataclasses.replace(stacked, expression=expression, body=body)
    features, scale = conditions.audio_features, conditions.audio_scale
    if features is not None and silence == "zeros":
        scale = jnp.pad(_scale(scale, features), (0, (copies - 1) * len(features)))
        features = jnp.concatenate([features] * copies)
    return dataclasses.replace(
        stacked, text_tokens=jnp.concatenate(text), audio_features=features, audio_scale=scale
    )
