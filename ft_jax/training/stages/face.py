"""Stage `face`: the face encoder learns to tell persons apart, whatever the clip.

ArcFace: the embedding must lie nearer, by a margin in angle, to the centre of its own person than
to all others. The centres (`head`) are dropped afterwards. People held out have no centres: there
the loss asks which of the other clips' faces is the same person's, given two crops of each clip.

Batch: faces uint8 [b s H W 3], person int [b]. Source: ArcFace (arXiv 1801.07698).
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
from ft_jax.models import face
from ft_jax.training import losses
from ft_jax.training.stages import Reads, Stage, picture
from ft_jax.typing import Params

TEMPERATURE = 0.1
"""Of the held-out comparison."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the stage."""

    persons: int  # classes; at least as many as the data has
    crops: int  # of each clip in a batch; at least 2
    margin: float  # radians
    scale: float  # of the cosines
    shift: int  # largest move of a crop, pixels
    colour: float
    noise: float


class Face(Stage):
    """See the head of this file."""

    Config = Config

    def __init__(self, cfg: Config, system: Any) -> None:
        """Takes the face encoder's sizes from `system`."""
        self.cfg, self._model = cfg, system.face
        self.system = to_dict(system)
        self.reads = Reads("pixels", ("faces", "person_index"), faces=cfg.crops)
        if cfg.crops < 2:
            raise UsageError(f"config.task.crops: {cfg.crops}; expected at least 2")

    def init(self, key: Key[Array, ""]) -> Params:
        """{face: parameters, head: {centres: {table}}}."""
        one, other = jax.random.split(key)
        table = jax.random.normal(other, (self.cfg.persons, self._model.width))
        return {"face": face.init(one, self._model), "head": {"centres": {"table": table}}}

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Crops and persons.

        Raises:
          UsageError: A person is beyond the classes.
        """
        person = batch["person_index"].astype(np.int32)
        if int(person.max()) >= self.cfg.persons:
            raise UsageError(
                f"config.task.persons: {self.cfg.persons}; expected more than the highest number "
                f"of a person in the data, {int(person.max())}"
            )
        return {"faces": batch["faces"], "person": person}

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """ArcFace loss over all crops; held out, the comparison of two crops a clip."""
        params = merge(trained, frozen)
        samples, crops = batch["faces"].shape[:2]
        pixels = picture.to_float(batch["faces"]).reshape(-1, *batch["faces"].shape[2:])
        if train:
            pixels = picture.shift(pixels, key, self.cfg.shift)
            pixels = picture.jitter(pixels, key, self.cfg.colour, self.cfg.noise)
            pixels = picture.soften(pixels, key)
        embedding = face.embed(params["face"], self._model, pixels)
        if train:
            person = jnp.repeat(batch["person"], crops)
            centres = params["head"]["centres"]["table"]
            logits = losses.margin_logits(
                embedding, centres, person, self.cfg.margin, self.cfg.scale
            )
            right = jnp.argmax(embedding @ losses.unit(centres).T, axis=-1) == person
            metrics = {"accuracy": jnp.mean(right.astype(jnp.float32))}
            return losses.cross_entropy(logits, person), metrics
        pairs = embedding.reshape(samples, crops, -1)
        cosine = pairs[:, 0] @ pairs[:, 1].T
        same = batch["person"][:, None] == batch["person"][None]
        nearest = jnp.take_along_axis(same, jnp.argmax(cosine, axis=-1)[:, None], axis=1)
        loss = losses.contrastive(pairs[:, 0], pairs[:, 1], TEMPERATURE)
        return loss, {"accuracy": jnp.mean(nearest.astype(jnp.float32))}
