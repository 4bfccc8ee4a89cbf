"""What a run says about itself: one JSON line and one progress line, one step behind the device.

`Log.push` is given the metrics of the step just started and waits only for those of the one before,
so the device always has work. Lines hold means over the steps since the last one. A loss or
gradient that is not finite stops the run and leaves the ids of its records in `bad_batch.json`.

Tests: tests/training/metrics_test.py.
"""

import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ft_jax.errors import UsageError
from ft_jax.sharding.processes import agreed, is_first


@dataclasses.dataclass
class _Pending:
    step: int
    values: Mapping[str, jax.Array]
    ids: Sequence[str]


class Log:
    """The log of one run, `workdir`/log.jsonl; lines of steps after `start` are cut off."""

    def __init__(self, workdir: Path, name: str, start: int, num_steps: int, every: int) -> None:
        """Opens the log of a run that continues at step `start`."""
        self._path = workdir / "log.jsonl"
        self._name, self._num_steps, self._every = name, num_steps, every
        self._workdir = workdir
        self._pending: _Pending | None = None
        self._sums: dict[str, float] = {}
        self._count = self._samples = 0
        self._since = time.perf_counter()
        self._waited = 0.0
        self._last = start
        self._forget_after(start)

    def push(
        self, step: int, values: Mapping[str, jax.Array], ids: Sequence[str], waited: float
    ) -> None:
        """Takes the metrics of `step`, and digests those of the step before.

        Args:
          step: Number of the step that was just started.
          values: Its metrics, still on the device.
          ids: Records in its batch.
          waited: Seconds that were spent waiting for the batch.

        Raises:
          UsageError: The loss or the gradient of the step before is not finite.
        """
        previous, self._pending = self._pending, _Pending(step, values, ids)
        self._waited += waited
        if previous is not None:
            self._digest(previous)

    def settle(self) -> None:
        """Waits for the last step and digests it: whatever is saved now is known to be finite."""
        previous, self._pending = self._pending, None
        if previous is not None:
            self._last = previous.step
            self._digest(previous)

    def flush(self) -> None:
        """Settles, and writes what the last line left out."""
        self.settle()
        if self._count:
            self._write_means(self._last)

    def write(self, line: Mapping[str, Any]) -> None:
        """Appends one JSON object; of several processes the first one does."""
        if not is_first():
            return
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def judged(self, step: int) -> bool:
        """Whether the log has a line of held-out metrics for `step`."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return agreed(any('"held_out"' in line and _step_of(line) == step for line in lines))

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        if is_first():
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def restart_clock(self) -> None:
        """Leaves out of the step time whatever happened since the last line."""
        self._since = time.perf_counter()

    def _digest(self, pending: _Pending) -> None:
        values = {name: float(x) for name, x in jax.device_get(dict(pending.values)).items()}
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(values[name]):
                self._stop(pending, name, values)
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._samples += len(pending.ids)
        if (pending.step + 1) % self._every == 0 or pending.step + 1 == self._num_steps:
            self._write_means(pending.step)

    def _write_means(self, step: int) -> None:
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        means = {name: total / self._count for name, total in self._sums.items()}
        timing = {
            "step_seconds": seconds / self._count,
            "samples_per_second": self._samples / seconds,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
        self.write({"step": step + 1, **means, **timing})
        left = (self._num_steps - step - 1) * timing["step_seconds"]
        self.say(
            f"step {step + 1}/{self._num_steps}  loss {means['loss']:.4f}  "
            f"{timing['step_seconds']:.3f} s/step  {timing['samples_per_second']:.1f} samples/s  "
            f"data wait {timing['data_wait_share']:.0%}  {clock(left)} left"
        )
        self._sums, self._count, self._samples = {}, 0, 0
        self._since, self._waited = now, 0.0

    def _stop(self, pending: _Pending, name: str, values: Mapping[str, float]) -> None:
        place = self._workdir / "bad_batch.json"
        readable = {key: str(value) for key, value in values.items()}
        ids = [str(record) for record in pending.ids]
        place.write_text(json.dumps({"step": pending.step, "ids": ids, "metrics": readable}))
        raise UsageError(
            f"step {pending.step}: {name} is {values[name]}; expected a finite number "
            f"(records of the batch: {place})"
        )

    def _forget_after(self, start: int) -> None:
        if not is_first() or not self._path.exists():
            return
        lines = self._path.read_text().splitlines()
        kept = [line for line in lines if _step_of(line) <= start]
        if len(kept) < len(lines):
            beside = self._path.with_suffix(".tmp")
            beside.write_text("".join(line + "\n" for line in kept))
            os.replace(beside, self._path)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return math.inf
