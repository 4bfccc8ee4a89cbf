"""Stage `speech`: the speech encoder learns which phonemes are spoken in and around every 20 ms.

Never trained on lips: what the denoiser later makes of its features is the denoiser's own work.
Loudness does not matter (waveforms are normalised over the cut), so what varies here is a random
tilt of the spectrum and some noise, which stand in for the voices that the training set lacks.

Batch: audio int16 [b x], phonemes int16 [b a]. Tests: tests/training/stages_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ft_jax.checkpoints.tree import merge
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.models import wav2vec2
from ft_jax.training import losses, randomness
from ft_jax.training.stages import Reads, Stage
from ft_jax.typing import Params


def around(labels: Int[Array, "b a"], offsets: tuple[int, ...]) -> Int[Array, "b a p"]:
    """The labels so many rows later (or earlier, below 0); -1 beyond both ends."""
    count = labels.shape[1]
    rows = np.add.outer(np.arange(count), offsets)
    inside = np.broadcast_to((rows >= 0) & (rows < count), (len(labels), *rows.shape))
    return jnp.where(inside, labels[:, rows.clip(0, count - 1)], -1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    tilt: float  # largest coefficient of the first-order filter
    noise: float  # largest deviation of the noise; the waveform's is 1
    smoothing: float  # of the labels
    offsets: tuple[int, ...]  # rows from its own for which a row has to tell the phoneme
    closed: tuple[int, ...]  # classes whose lips close; their accuracy is logged apart


class Speech(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the speech encoder's sizes from `system`."""
        self.cfg, self._model = cfg, system.speech
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("audio", "phonemes"))
        self._classes, rest = divmod(self._model.phonemes, len(cfg.offsets))
        if rest or not self._classes:
            raise UsageError(
                f"config.model.speech.phonemes: {self._model.phonemes}; expected the number of "
                f"classes times the {len(cfg.offsets)} of config.task.offsets"
            )

    def init(self, key: Key[Array, ""]) -> Params:
        """{speech: parameters}."""
        return {"speech": wav2vec2.init(key, self._model)}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sound and labels.

        Raises:
          UsageError: A label is beyond the classes of the model.
        """
        highest = int(batch["phonemes"].max())
        if highest >= self._classes:
            raise UsageError(
                f"config.model.speech.phonemes: {self._classes} for each of config.task.offsets; "
                f"expected more than the highest class of the data, {highest}"
            )
        return {"audio": batch["audio"], "phonemes": batch["phonemes"].astype(np.int32)}

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross entropy of the phonemes."""
        params = merge(trained, frozen)["speech"]
        wave = wav2vec2.normalise_waveform(batch["audio"].astype(jnp.float32) / 32768.0)
        if train:
            wave = wav2vec2.normalise_waveform(self._varied(wave, key))
        features = wav2vec2.encode(params, self._model, wave)
        logits = wav2vec2.phoneme_logits(params, self._model, features)
        logits = logits.reshape(*features.shape[:2], len(self.cfg.offsets), self._classes)
        labels = around(batch["phonemes"], self.cfg.offsets)
        smoothing = self.cfg.smoothing if train else 0.0
        right = jnp.argmax(logits, axis=-1) == labels
        closed = jnp.isin(labels, jnp.array(self.cfg.closed))
        metrics = {
            "accuracy": jnp.sum(right) / jnp.sum(labels >= 0),
            "accuracy_closed": jnp.sum(right & closed) / jnp.maximum(jnp.sum(closed), 1),
        }
        for at, offset in enumerate(self.cfg.offsets):
            seen = labels[..., at] >= 0
            metrics[f"accuracy_at_{offset}"] = jnp.sum(right[..., at] & seen) / jnp.sum(seen)
        return losses.cross_entropy(logits, labels, smoothing), metrics

    def _varied(self, wave: Float[Array, "b x"], key: Key[Array, ""]) -> Float[Array, "b x"]:
        keys = jax.random.split(randomness.draw(key, "augment"), 3)
        shape = (wave.shape[0], 1)
        tilt = self.cfg.tilt * jax.random.uniform(keys[0], shape, minval=-1.0)
        before = jnp.pad(wave[:, :-1], ((0, 0), (1, 0)))
        strength = self.cfg.noise * jax.random.uniform(keys[1], shape) ** 2
        return wave + tilt * before + strength * jax.random.normal(keys[2], wave.shape)
