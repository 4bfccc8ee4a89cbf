"""Stage `landmarks`: the measuring instrument of the drawn world learns to read faces.

Regression of the measures and the face box, standardised, on frames whose face can be seen, and a
yes or no on whether it can. Their movement within a clip counts once more, relative to how much
each moves: brows and lids differ between people by far more than they ever move. Frames are blurred
and made noisy at random, because the instrument will be held to reconstructed and generated pixels.

Batch: frames uint8 [b f H W 3], measures [b f m] (the last is visibility), face_box [b f 4].
Tests: tests/training/stages_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from ft_jax.checkpoints.tree import merge
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.models import landmarks
from ft_jax.training import losses
from ft_jax.training.stages import Reads, Stage, picture
from ft_jax.typing import Params

LEAST_MOVEMENT = 0.05
"""In deviations of a measure over the corpus; what moves less counts as moving this much."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    frames: int  # random ones of each clip
    visible_weight: float  # of the yes or no beside the regression
    movement_weight: float  # of the movement within a clip beside it
    colour: float
    noise: float


class Landmarks(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the network's sizes from `system`."""
        if system.landmarks is None:
            raise UsageError("config.model.landmarks: none; expected a landmark network")
        self.cfg, self._model = cfg, system.landmarks
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("frames", "measures", "face_box"))

    def init(self, key: Key[Array, ""]) -> Params:
        """{landmarks: parameters}."""
        return {"landmarks": landmarks.init(key, self._model)}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Frames, measures with box, and which of them are known.

        Raises:
          UsageError: The data has another number of measures than the model.
        """
        measures, box = batch["measures"], batch["face_box"].astype(np.float32)
        if measures.shape[-1] != len(self._model.measures) + 1:
            raise UsageError(
                f"config.model.landmarks.measures: {len(self._model.measures)}; expected "
                f"{measures.shape[-1] - 1}, those of the data without the visibility"
            )
        values = np.concatenate([measures[..., :-1], box], axis=-1).astype(np.float32)
        visible = measures[..., -1:] > 0.5
        known = np.isfinite(values) & visible
        return {
            "frames": batch["frames"],
            "values": np.where(known, values, 0.0),
            "known": known.astype(np.float32),
            "visible": visible.astype(np.float32),
        }

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Huber loss of the standardised values plus weighted cross entropy of the visibility."""
        params = merge(trained, frozen)["landmarks"]
        chosen = {
            name: picture.some_frames(x, key, self.cfg.frames).reshape(-1, *x.shape[2:])
            for name, x in batch.items()
        }
        pixels = picture.to_float(chosen["frames"])
        if train:
            pixels = picture.jitter(pixels, key, self.cfg.colour, self.cfg.noise)
            pixels = picture.soften(pixels, key)
        raw = landmarks.outputs(params, self._model, pixels)
        count = len(self._model.measures)
        values, known = chosen["values"], chosen["known"]
        target = landmarks.standardise(self._model, values[:, :count], values[:, count:])
        fit = losses.regression(raw[:, :-1], target, known)
        seen = optax.sigmoid_binary_cross_entropy(raw[:, -1:], chosen["visible"]).mean()
        moves, unexplained = self._movement(raw[:, :-1], target, known)
        error = jnp.sum(jnp.square(raw[:, :-1] - target) * known, axis=0)
        error = error / jnp.maximum(jnp.sum(known, axis=0), 1.0)
        metrics = {"visible": seen}
        for k, name in enumerate(self._model.measures):
            metrics |= {f"error_{name}": error[k], f"movement_{name}": unexplained[k]}
        total = fit + self.cfg.visible_weight * seen + self.cfg.movement_weight * moves
        return total, metrics

    def _movement(
        self, raw: Float[Array, "b m"], target: Float[Array, "b m"], known: Float[Array, "b m"]
    ) -> tuple[Float[Array, ""], Float[Array, " m"]]:
        """Huber loss of the movement, and per measure its share of variance that is not seen."""
        by_clip = (-1, self.cfg.frames, target.shape[-1])
        found, true = (
            losses.movement(x.reshape(by_clip), known.reshape(by_clip)).reshape(target.shape)
            for x in (raw, target)
        )
        power = jnp.sum(jnp.square(true), axis=0) / jnp.maximum(jnp.sum(known, axis=0), 1.0)
        scale = jnp.sqrt(jnp.maximum(power, LEAST_MOVEMENT**2))[None]
        wrong = jnp.sum(jnp.square((found - true) / scale), axis=0)
        unexplained = wrong / jnp.maximum(jnp.sum(known, axis=0), 1.0)
        return losses.regression(found / scale, true / scale, known), unexplained
