"""Stage `speech`: the speech encoder learns which phoneme is spoken in every 20 ms.

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
from jaxtyping import Array, Float, Key

from ft_jax.checkpoints.tree import merge
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.models import wav2vec2
from ft_jax.training import losses, randomness
from ft_jax.training.stages import Reads, Stage
from ft_jax.typing import Params


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    tilt: float  # largest coefficient of the first-order filter
    noise: float  # largest deviation of the noise; the waveform's is 1
    smoothing: float  # of the labels
    closed: tuple[int, ...]  # classes whose lips close; their accuracy is logged apart


class Speech(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the speech encoder's sizes from `system`."""
        self.cfg, self._model = cfg, system.speech
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("audio", "phonemes"))
        if self._model.phonemes < 1:
            raise UsageError("config.model.speech.phonemes: 0; expected the number of classes")

    def init(self, key: Key[Array, ""]) -> Params:
        """{speech: parameters}."""
        return {"speech": wav2vec2.init(key, self._model)}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sound and labels.

        Raises:
          UsageError: A label is beyond the classes of the model.
        """
        highest = int(batch["phonemes"].max())
        if highest >= self._model.phonemes:
            raise UsageError(
                f"config.model.speech.phonemes: {self._model.phonemes}; expected more than the "
                f"highest class of the data, {highest}"
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
        labels = batch["phonemes"]
        smoothing = self.cfg.smoothing if train else 0.0
        right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
        closed = jnp.isin(labels, jnp.array(self.cfg.closed))
        metrics = {
            "accuracy": jnp.mean(right),
            "accuracy_closed": jnp.sum(right * closed) / jnp.maximum(jnp.sum(closed), 1),
        }
        return losses.cross_entropy(logits, labels, smoothing), metrics

    def _varied(self, wave: Float[Array, "b x"], key: Key[Array, ""]) -> Float[Array, "b x"]:
        keys = jax.random.split(randomness.draw(key, "augment"), 3)
        shape = (wave.shape[0], 1)
        tilt = self.cfg.tilt * jax.random.uniform(keys[0], shape, minval=-1.0)
        before = jnp.pad(wave[:, :-1], ((0, 0), (1, 0)))
        strength = self.cfg.noise * jax.random.uniform(keys[1], shape) ** 2
        return wave + tilt * before + strength * jax.random.normal(keys[2], wave.shape)
