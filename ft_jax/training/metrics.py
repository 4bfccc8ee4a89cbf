"""What a run says about itself: JSON lines, a progress line and sinks, one step behind the device.

`Log.push` is given the metrics of the step just started and waits only for those of the one before,
so the device always has work. Lines hold means over the steps since the last one; steps that were
not finite are counted as `skipped` and are in no mean. Of several processes the first one writes.

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

from ft_jax.sharding.processes import is_first
from ft_jax.training import sinks
from ft_jax.training.goodput import Goodput
from ft_jax.training.hosts import Hosts
from ft_jax.training.patience import Patience


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step does, over all processes.

    Attributes:
      ids: Records of the batch that this process holds slices of.
      samples: In the whole batch.
      flops: Useful operations; 0 if nobody counted them.
    """

    ids: Sequence[str]
    samples: int
    flops: float = 0.0


@dataclasses.dataclass
class _Pending:
    step: int
    values: Mapping[str, jax.Array]
    work: Work
    busy: jax.Array | None  # of all hosts, at the end of a line


class Log:
    """The log of one run, `workdir`/log.jsonl; lines of steps after the first one are cut off."""

    def __init__(
        self, workdir: Path, name: str, steps: range, every: int, limit: int, began: float
    ) -> None:
        """Opens the log.

        Args:
          workdir: Folder of the run.
          name: At the head of the progress line.
          steps: Those that are still to be made.
          every: Steps of one line.
          limit: So many steps in a row may be not finite.
          began: `time.time` when this process began.
        """
        self._path = workdir / "log.jsonl"
        self._name, self._num_steps, self._every = name, steps.stop, every
        self._leads = is_first()
        self._patience = Patience(workdir, limit)
        self._sinks: list[sinks.Sink] = []
        self._peak = 0.0
        self._pending: _Pending | None = None
        self._sums: dict[str, float] = {}
        self._count = self._skipped = self._samples = 0
        self._flops = 0.0
        self._since = self._busy_since = time.perf_counter()
        self._waited = self._idle = 0.0
        self._hosts = Hosts() if jax.process_count() > 1 else None
        self._last = steps.start
        self.goodput = Goodput(self._lines(), steps.start, began)
        if self._leads:
            self._forget_after(steps.start)

    def push(self, step: int, values: Mapping[str, jax.Array], work: Work, waited: float) -> None:
        """Takes the metrics of `step`, and digests those of the step before.

        Args:
          step: Number of the step that was just started.
          values: Its metrics, still on the device.
          work: What it does.
          waited: Seconds that were spent waiting for the batch.

        Raises:
          NotFiniteError: Loss or gradient of the step before, and of too many before that, are not.
        """
        busy = self._spread() if self._ends_line(step) else None
        previous, self._pending = self._pending, _Pending(step, values, work, busy)
        self._waited += waited
        self.goodput.add("data", waited)
        if previous is not None:
            self._digest(previous)

    def settle(self) -> None:
        """Waits for the last step and digests it: whatever is saved now is known to be wanted."""
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
        """Appends one JSON object, with a `step`; its numbers go to the sinks as well."""
        if not self._leads:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for sink in self._sinks:
            sink.put(line["step"], sinks.flat(line))

    def judged(self, step: int) -> dict[str, float]:
        """The held-out metrics that the log has for `step`; {} for none."""
        rows = [line["held_out"] for line in self._lines() if "held_out" in line]
        steps = [line["step"] for line in self._lines() if "held_out" in line]
        return dict(rows[steps.index(step)]) if step in steps else {}

    def say(self, text: str) -> None:
        """One line for whoever watches."""
        if self._leads:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)

    def add(self, *more: sinks.Sink) -> None:
        """Sends numbers to these sinks as well, and closes them at the end."""
        self._sinks += more

    def expect(self, peak: float) -> None:
        """Says MFU from now on, of `peak` operations a second that the devices could do."""
        self._peak = peak

    def close(self) -> None:
        """Closes the sinks."""
        for sink in self._sinks:
            sink.close()

    def restart_clock(self) -> None:
        """Leaves out of the step time whatever happened since the last line."""
        self._since = time.perf_counter()

    def _digest(self, pending: _Pending) -> None:
        began = time.perf_counter()
        values = {name: float(x) for name, x in jax.device_get(dict(pending.values)).items()}
        self._idle += time.perf_counter() - began
        if self._patience.is_finite(pending.step, values, pending.work.ids):
            for name, value in values.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
        else:
            self._skipped += 1
            self.say(f"step {pending.step} is not finite and changed nothing")
        self._count += 1
        self._samples += pending.work.samples
        self._flops += pending.work.flops
        if self._ends_line(pending.step):
            self._write_means(pending.step, pending.busy)

    def _ends_line(self, step: int) -> bool:
        return (step + 1) % self._every == 0 or step + 1 == self._num_steps

    def _spread(self) -> jax.Array | None:
        """Tells the other hosts for how long this one did not wait for a device since last time."""
        if self._hosts is None:
            return None
        now = time.perf_counter()
        busy, self._busy_since, self._idle = now - self._busy_since - self._idle, now, 0.0
        return self._hosts.spread(busy)

    def _write_means(self, step: int, busy: jax.Array | None = None) -> None:
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        finite = self._count - self._skipped
        means = {name: total / finite for name, total in self._sums.items()}
        each = seconds / self._count
        timing = {
            "step_seconds": each,
            "samples_per_second": self._samples / seconds,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
        if self._peak:
            timing["mfu"] = self._flops / (seconds * self._peak)
        wall = time.time()
        books = self.goodput.books(wall)
        line: dict[str, Any] = {"step": step + 1, **means, "skipped": self._skipped, **timing}
        line |= {"time": wall, "goodput": books}
        slowest = None
        if self._hosts is not None and busy is not None:
            slowest = self._hosts.slowest(jax.device_get(busy))
            line["slowest"] = slowest
        self.write(line)
        told = [f"step {step + 1}/{self._num_steps}", f"loss {means.get('loss', math.nan):.4f}"]
        told += [f"{each:.3f} s/step", f"{timing['samples_per_second']:.1f} samples/s"]
        told += [f"MFU {timing['mfu']:.0%}"] if self._peak else []
        told += [f"data wait {timing['data_wait_share']:.0%}", f"goodput {books['share']:.0%}"]
        told += [f"slowest {slowest['host']}"] if slowest else []
        self.say("  ".join([*told, f"{clock((self._num_steps - step - 1) * each)} left"]))
        self._sums, self._count, self._skipped, self._samples = {}, 0, 0, 0
        self._flops = 0.0
        self._since, self._waited = now, 0.0

    def _lines(self) -> list[dict[str, Any]]:
        """All whole lines; a kill may have cut off the last one."""
        text = self._path.read_text() if self._path.exists() else ""
        return [json.loads(line) for line in text.splitlines() if _step_of(line) < math.inf]

    def _forget_after(self, start: int) -> None:
        if not is_first() or not self._path.exists():
            return
        lines = self._path.read_text().splitlines()
        kept = [line for line in lines if _step_of(line) <= start]
        if len(kept) < len(lines):
            booked = {
                "step": start,
                "time": time.time(),
                "goodput": self.goodput.books(time.time()),
            }
            beside = self._path.with_suffix(".tmp")
            beside.write_text("".join(line + "\n" for line in [*kept, json.dumps(booked)]))
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
