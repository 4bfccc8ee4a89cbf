"""Where the numbers of a run go besides log.jsonl: TensorBoard events, Weights & Biases.

Tests: tests/training/sinks_test.py.
"""

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from etils import epath

from ft_jax.errors import UsageError


@runtime_checkable
class Sink(Protocol):
    """Takes numbers by name."""

    def put(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of a step."""
        ...

    def close(self) -> None:
        """What was put is safe."""
        ...


class TensorBoard:
    """Event files in WORKDIR/tensorboard; points beyond the step a run continues at are hidden."""

    def __init__(self, workdir: Path, start: int) -> None:
        """Makes the folder."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=start + 1)

    def put(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of `project` by the name of the workdir; the same workdir continues the same run."""

    def __init__(self, project: str, place: epath.Path, workdir: Path, settings: Any) -> None:
        """Signs in as the library does by itself.

        Args:
          project: Its name.
          place: Folder of the run, whose name it gets.
          workdir: Where the library writes.
          settings: Shown with the run.

        Raises:
          UsageError: The library is not installed.
        """
        try:
            wandb = importlib.import_module("wandb")
        except ImportError:
            raise UsageError(
                f"config.watch.wandb: {project!r}, but wandb is not installed; expected "
                f"'pip install wandb', or an empty name"
            ) from None
        self._run = wandb.init(
            project=project,
            name=place.name,
            id=hashlib.sha256(str(place).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(workdir),
            config=settings,
        )

    def put(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """{"a/b": number} of a line of the log, less `step` and `time`; words are left out."""
    result: dict[str, float] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and prefix + key not in ("step", "time"):
            result[prefix + key] = float(value)
    return result
