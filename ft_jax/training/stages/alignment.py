"""Stage `alignment`: image and text encoder learn which caption belongs to which picture.

Symmetric InfoNCE over the batch between the pooled vectors of a random frame and of its caption, as
CLIP is trained. The denoiser reads token rows of both encoders, not these vectors.

Batch: frames uint8 [b f H W 3], ids int [b s], mask bool [b s].
Tests: tests/training/stages_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ft_jax.checkpoints.tree import merge
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.models import clip, text
from ft_jax.training import losses
from ft_jax.training.stages import Reads, Stage, picture
from ft_jax.typing import Params


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    temperature: float
    colour: float  # largest change of brightness and colours; captions name colours
    noise: float


class Alignment(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes both encoders' sizes from `system`."""
        self.cfg, self._image, self._text = cfg, system.image, system.text
        self._length = system.denoiser.dit.text_tokens
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("frames", "caption"))
        if min(self._image.projection, self._text.projection) < 1:
            raise UsageError("config.model.image.projection: 0; expected the width to compare in")

    def init(self, key: Key[Array, ""]) -> Params:
        """{image: parameters, text: parameters}."""
        one, other = jax.random.split(key)
        return {"image": clip.init(one, self._image), "text": text.init(other, self._text)}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Frames, and captions as token ids of the length that the denoiser takes."""
        captions = [str(caption) for caption in batch["caption"]]
        ids, mask = text.tokenize(self._text, captions, self._length)
        return {"frames": batch["frames"], "ids": ids, "mask": mask}

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """InfoNCE; `recall` is the share of captions whose own picture is the nearest."""
        params = merge(trained, frozen)
        pictures = picture.to_float(picture.some_frames(batch["frames"], key, 1)[:, 0])
        if train:
            pictures = picture.jitter(pictures, key, self.cfg.colour, self.cfg.noise)
        pixels = clip.preprocess(self._image, pictures)
        seen = clip.pooled(params["image"], self._image, pixels)
        said = text.pooled(params["text"], self._text, batch["ids"], batch["mask"])
        nearest = jnp.argmax(said @ seen.T, axis=-1)
        recall = jnp.mean((nearest == jnp.arange(said.shape[0])).astype(jnp.float32))
        return losses.contrastive(seen, said, self.cfg.temperature), {"recall": recall}
