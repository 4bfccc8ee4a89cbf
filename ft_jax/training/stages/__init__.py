"""The phases of training, one file a kind. A new one is a new file and a line in `KINDS`.

A stage says what is trained and on what; the loop (ft_jax/training/loop.py) knows nothing about it
beyond `Stage`. Parameter trees have the parts of the system (ft_jax/models/system.py) as top keys;
further top keys (`head`) live only while training.
"""

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Key

from ft_jax.errors import UsageError
from ft_jax.typing import Params

KINDS: Mapping[str, str] = {
    "codec": "ft_jax.training.stages.codec:Codec",
    "speech": "ft_jax.training.stages.speech:Speech",
    "alignment": "ft_jax.training.stages.alignment:Alignment",
    "face": "ft_jax.training.stages.face:Face",
    "landmarks": "ft_jax.training.stages.landmarks:Landmarks",
    "base": "ft_jax.training.stages.flow:Base",
    "clip": "ft_jax.training.stages.flow:Clip",
    "frame": "ft_jax.training.stages.flow:Frame",
}


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a stage wants of the data: the table, its fields, and how they are cut."""

    kind: str  # pixels | records
    fields: tuple[str, ...]
    frames: int = 0  # random sub-clips of this length; 0: whole clips
    faces: int = 0  # random face crops of each clip
    text_len: int = 0  # rows that text is padded to
    widths: Mapping[str, int] = dataclasses.field(default_factory=dict)  # checked against the data


@runtime_checkable
class Stage(Protocol):
    """One phase. `Config` is its own group of settings (`task` in configs/).

    A stage may inherit from this to be given `abstract` and `finish`; the loop does not ask it to.
    """

    system: Mapping[str, Any]  # configuration of the whole system, as written beside weights
    reads: Reads

    def init(self, key: Key[Array, ""]) -> Params:
        """All parameters the stage knows, frozen ones included."""
        ...

    def abstract(self) -> Params:
        """Their shapes, in the boxes that carry logical axes; a leaf without one is replicated."""
        return jax.eval_shape(self.init, jax.random.key(0))

    def prepare(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A batch of the loader -> the arrays that go to the device; runs in a thread."""
        ...

    def loss(
        self,
        trained: Params,
        frozen: Params,
        batch: dict[str, jax.Array],
        key: Key[Array, ""],
        train: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The scalar to minimise and what to log."""
        ...

    def finish(self, params: Params, batches: Iterator[dict[str, np.ndarray]]) -> Mapping[str, Any]:
        """After the last step: changes to the configuration of the system ({} for none)."""
        del params, batches
        return {}


def kind(name: str) -> Any:
    """The class of stage `name`; its attribute `Config` is a dataclass.

    Raises:
      UsageError: There is no such stage.
    """
    if name not in KINDS:
        raise UsageError(f"stage: got {name!r}; expected one of {sorted(KINDS)}")
    module, _, attribute = KINDS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
