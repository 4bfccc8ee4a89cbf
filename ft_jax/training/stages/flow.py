"""Stages `base`, `clip`, `frame`: the denoiser learns velocities.

    base    the DiT itself, on picture and text; no branch exists              (here: the mini one)
    clip    branches only, every video token hears the whole clip              paper's stage 1
    frame   branches only, a latent frame hears its window; the loss of most
            samples counts the lips alone                                      paper's stage 2

The three share this class and differ in which branches exist, in windows and in the lip loss; what
is frozen is said by `optim.groups`. Per sample and independently of each other the image tokens,
the speech, the text and the identity are dropped, by multiplying with 0; condition latents stay
(unless `drop.image_takes` says otherwise), because no guidance branch ever runs without the first
frame. Held out, the loss is also told at some noise levels one by one.

Batch: the fields of a record (data_pipeline/schema.py), text padded with zero rows.
Source: paper sec. 3.2-3.4. Tests: tests/training/flow_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ft_jax.checkpoints.tree import merge
from ft_jax.config import to_dict
from ft_jax.diffusion import flow
from ft_jax.models import audio, dit, fantasy
from ft_jax.training import losses, randomness
from ft_jax.training.stages import Reads, Stage
from ft_jax.typing import Params

FIELDS = ("video_latents", "condition_latents", "image_tokens", "text_tokens", "lip_mask")
SPEECH, FACE, MOTION = ("audio_features",), ("identity",), ("expression", "body")


@dataclasses.dataclass(frozen=True)
class Drop:
    """Probability of dropping each condition, per sample.

    Attributes:
      image: Of the image.
      image_takes: What goes with it: its "tokens", or the whole "picture", condition latents and
        their mask included.
      audio: Of the speech.
      text: Of the prompt.
      identity: Of the face.
    """

    image: float
    image_takes: Literal["tokens", "picture"]
    audio: float
    text: float
    identity: float


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the three stages."""

    noise: flow.Config
    drop: Drop
    lip: losses.Lip
    levels: tuple[float, ...]  # noise levels that the held-out loss is also told at; () for none
    identity: bool  # whether the branch exists
    motion: bool


class Flow(Stage):
    """What the three stages share; see the head of this file."""

    Config = Config
    branches = True
    mode: audio.Mode = "clip"

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the denoiser from `system`, less the branches that are switched off."""
        self.cfg = cfg
        full = system.denoiser
        self._model = dataclasses.replace(
            full,
            audio=full.audio if self.branches else None,
            identity=full.identity if self.branches and cfg.identity else None,
            motion=full.motion if self.branches and cfg.motion else None,
        )
        self.system = to_dict(dataclasses.replace(system, denoiser=self._model))
        fields = FIELDS
        for part, names in ((self._model.audio, SPEECH), (self._model.identity, FACE)):
            fields += names if part else ()
        self._fields = fields + (MOTION if self._model.motion else ())
        self.reads = Reads(
            "records", self._fields, text_len=full.dit.text_tokens, widths=self._widths()
        )

    def init(self, key: Key[Array, ""]) -> Params:
        """{denoiser: {dit, audio, identity, motion}}, of these what exists."""
        return {"denoiser": fantasy.init(self._model, key)}

    def abstract(self) -> Params:
        """The same as shapes, in the boxes that carry logical axes."""
        return {"denoiser": fantasy.abstract_params(self._model)}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The fields that are read, scalars as float32."""
        arrays = {name: batch[name] for name in self._fields}
        return {
            name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in arrays.items()
        }

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean weighted loss; held out, nothing is dropped and the whole frame counts."""
        params = merge(trained, frozen)["denoiser"]
        clean = batch["video_latents"].astype(jnp.float32)
        samples = clean.shape[0]
        sigma = flow.sample_sigma(randomness.draw(key, "sigma"), samples, self.cfg.noise)
        noise = jax.random.normal(randomness.draw(key, "noise"), clean.shape)
        conditions = self.conditions(batch, key, train)
        windows = None
        if self._model.audio is not None and conditions.audio_features is not None:
            frames = audio.LATENT_STRIDE * (clean.shape[1] - 1) + 1
            tokens = conditions.audio_features.shape[1]
            windows = audio.windows(self._model.audio, self.mode, tokens, frames)

        def error_at(sigma: Float[Array, " b"]) -> Float[Array, "b t h w"]:
            noisy = flow.interpolate(clean, noise, sigma)
            predicted = fantasy.apply(params, self._model, noisy, sigma, conditions, windows)
            return losses.squared_error(predicted, flow.velocity(clean, noise))

        error = error_at(sigma)
        mask = batch["lip_mask"].astype(jnp.float32) / 255.0
        chosen = jnp.zeros((samples,), bool)
        if train:
            chosen = randomness.happens(key, "lip", self.cfg.lip.probability, samples)
        each = losses.lip_or_whole(error, mask, chosen, self.cfg.lip)
        each = each * flow.loss_weight(sigma, self.cfg.noise)
        everywhere, lips = losses.whole(error), losses.region(error, mask)
        metrics = {"whole": jnp.mean(everywhere), "lips": jnp.mean(lips)}
        if not train and self.cfg.levels:
            levels = jnp.asarray(self.cfg.levels, jnp.float32)
            means = jax.lax.map(lambda x: jnp.mean(error_at(jnp.full(samples, x))), levels)
            metrics |= {
                f"level_{x:g}": mean for x, mean in zip(self.cfg.levels, means, strict=True)
            }
        return jnp.mean(each), metrics

    def conditions(
        self, batch: dict[str, jax.Array], key: Key[Array, ""], train: bool
    ) -> fantasy.Conditions:
        """What the network is told, with the drops of this step."""
        samples = batch["video_latents"].shape[0]

        def kept(name: str) -> Float[Array, " b"]:
            if not train:
                return jnp.ones((samples,))
            rate = getattr(self.cfg.drop, name)
            return 1.0 - randomness.happens(key, f"drop_{name}", rate, samples)

        def given(name: str) -> jax.Array | None:
            return batch[name].astype(jnp.float32) if name in self._fields else None

        image = kept("image")
        text, latents = (
            batch[name].astype(jnp.float32) for name in ("text_tokens", "condition_latents")
        )
        if train and self.cfg.drop.image_takes == "picture":
            latents = dit.with_mask(latents) * image[:, None, None, None, None]
        return fantasy.Conditions(
            condition_latents=latents,
            image_tokens=given("image_tokens"),
            text_tokens=text * kept("text")[:, None, None],
            audio_features=given("audio_features"),
            identity=given("identity"),
            expression=given("expression"),
            body=given("body"),
            image_scale=image,
            audio_scale=kept("audio"),
            identity_scale=kept("identity"),
        )

    def _widths(self) -> dict[str, int]:
        model = self._model
        widths = {"c": model.dit.latent_channels, "cs": model.dit.text_width}
        if model.dit.image_width is not None:
            widths["ci"] = model.dit.image_width
        if model.audio is not None:
            widths["ca"] = model.audio.feature_width
        if model.identity is not None:
            widths["ce"] = model.identity.embedding_width
        return widths


class Base(Flow):
    """The image-to-video model without branches."""

    branches = False


class Clip(Flow):
    """Stage 1: the whole clip's speech for every video token."""


class Frame(Flow):
    """Stage 2: each latent frame with its own window, mostly judged on the lips."""

    mode = "frame"
