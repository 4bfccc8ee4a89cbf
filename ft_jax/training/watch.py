"""What is watched while a run goes on (group `watch` of the settings), beside its log.

Tests: tests/training/loop_test.py, and those of the files that each part stands in.
"""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from etils import epath

from ft_jax.training import preview, sinks
from ft_jax.training.metrics import Log
from ft_jax.training.profile import Profile
from ft_jax.training.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class Config:
    """What to look at, what to put up with.

    Attributes:
      bad_steps: So many steps in a row may have a loss or gradient that is not finite.
      hang_seconds: Without the end of a step, after which all stacks are written; 0: never.
      profile: Steps from the first to before the second; equal ones: none.
      tensorboard: Whether event files are written.
      wandb: Project of Weights & Biases; "": none.
      preview: Clips that are made on the way.
    """

    bad_steps: int
    hang_seconds: float
    profile: tuple[int, int]
    tensorboard: bool
    wandb: str
    preview: preview.Config


class Watch:
    """The parts that want to know of every step."""

    def __init__(
        self, cfg: Config, places: tuple[epath.Path, Path], log: Log, start: int, settings: Any
    ) -> None:
        """Opens what is asked for; numbers of `log` also go to the sinks.

        Args:
          cfg: What that is.
          places: Folder of the run, by which it is known, and where it writes (mirror.py).
          log: Of the run.
          start: Step that it continues from.
          settings: Of the run, as JSON values.

        Raises:
          UsageError: A setting asks for what there is not.
        """
        place, workdir = places
        self._profile = Profile(workdir, cfg.profile, log.settle)
        if jax.process_index() == 0:
            if cfg.wandb:
                log.add(sinks.WeightsAndBiases(cfg.wandb, place, workdir, settings))
            if cfg.tensorboard:
                log.add(sinks.TensorBoard(workdir, start))
        self._watchdog = Watchdog(workdir, cfg.hang_seconds)

    def before(self, step: int) -> None:
        """Is told of every step before it begins."""
        self._watchdog.beat()
        self._profile.before(step)

    def close(self) -> None:
        """Ends what still runs."""
        self._watchdog.close()
        self._profile.close()
