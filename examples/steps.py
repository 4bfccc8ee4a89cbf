"""Steps of a long command: each with a bar and an estimate, none done twice.

In: named steps, each a command line or a function, with what it depends on. Out: their effects on
disk, and a journal that says how long each took. A step whose command, inputs and earlier steps are
as they were is skipped. The estimate comes from what the step itself reports (tqdm's `3/8`, the
training's `step 3/8`) and else from how long it usually takes, scaled by how this machine did so
far.

Tests: tests/examples/steps_test.py.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

_COUNT = re.compile(r"(?:step |\| *)(\d+)/(\d+)")
_WIDTH = 24  # of the bar, in characters
Report = Callable[[float], None]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
      name: Of the entry in the journal; letters only.
      title: What people read.
      usual: Seconds on two cores, for the estimate before the step says more.
      key: Everything that decides the result besides earlier steps: command, settings, hashes.
      after: Names of the steps whose results it reads.
      makes: What must be there for the step to count as done.
      clears: Folders of an earlier, other run that must not be continued.
    """

    name: str
    title: str
    usual: float
    key: Any
    after: Sequence[str] = ()
    makes: Sequence[Path] = ()
    clears: Sequence[Path] = ()


class Failed(Exception):
    """A command ended with an error; the message is its last lines."""


class Steps:
    """Runs steps and remembers them in `folder`/journal.json."""

    def __init__(self, folder: Path, count: int, out: TextIO | None = None) -> None:
        """Opens the journal.

        Args:
          folder: Where results, logs and the journal lie.
          count: How many steps there will be, for the numbering.
          out: Where bars go; default stderr.
        """
        self.folder, self.count = folder, count
        self.reused = 0
        self._out = out or sys.stderr
        self._number = 0
        self._spent = self._usual = 0.0
        self._keys: dict[str, str] = {}
        self._path = folder / "journal.json"
        self._journal: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self._journal = json.loads(self._path.read_text())

    @property
    def seconds(self) -> dict[str, float]:
        """How long each finished step took when it ran."""
        return {name: entry["seconds"] for name, entry in self._journal.items()}

    def call(self, step: Step, work: Callable[[Report], None]) -> None:
        """Runs `work` unless the step is done; it may report the share that is finished."""
        self._number += 1
        key = self._key(step)
        label = f"[{self._number}/{self.count}] {step.title}"
        entry = self._journal.get(step.name)
        if entry and entry["key"] == key and all(path.exists() for path in step.makes):
            self.reused += 1
            print(f"{label}: there already", file=self._out, flush=True)
            return
        for folder in step.clears:
            shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        with _bar(label, step.usual * self._pace(), self._out) as report:
            work(report)
        seconds = time.perf_counter() - started
        print(f"{label}: {seconds:.0f} s", file=self._out, flush=True)
        self._spent, self._usual = self._spent + seconds, self._usual + step.usual
        self._journal[step.name] = {"key": key, "seconds": round(seconds, 1)}
        beside = self._path.with_suffix(".partial")
        beside.write_text(json.dumps(self._journal, indent=1))
        os.replace(beside, self._path)

    def run(self, step: Step, command: Sequence[str], environment: dict[str, str]) -> None:
        """Runs a command line unless the step is done; what it prints goes to a log.

        Raises:
          Failed: The command did; the message ends with what it said last.
        """
        log = self.folder / "logs" / f"{step.name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)

        def work(report: Report) -> None:
            with (
                log.open("w") as file,
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    env=os.environ | environment,
                ) as process,
            ):
                try:
                    last = _follow(process, file, report)
                except BaseException:
                    process.terminate()
                    raise
            code = process.returncode
            if code:
                said = "\n".join(last[-12:])
                raise Failed(f"{' '.join(command)}\nended with {code}:\n{said}\n(log: {log})")

        self.call(dataclasses.replace(step, key=[list(command), step.key]), work)

    def _pace(self) -> float:
        """How much slower than usual this machine has been so far."""
        return self._spent / self._usual if self._usual > 10 else 1.0

    def _key(self, step: Step) -> str:
        parts = [step.key, [self._keys[name] for name in step.after]]
        text = json.dumps(parts, sort_keys=True, default=str)
        self._keys[step.name] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._keys[step.name]


def _follow(process: subprocess.Popen[bytes], log: TextIO, report: Report) -> list[str]:
    """Copies what a process prints into the log; returns its last lines."""
    last: list[str] = []
    rest = b""
    assert process.stdout is not None
    while chunk := os.read(process.stdout.fileno(), 4096):
        *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
        for line in (line.decode(errors="replace") for line in lines if line.strip()):
            log.write(line + "\n")
            last = [*last[-20:], line]
            if counts := _COUNT.findall(line):
                done, total = (int(number) for number in counts[-1])
                report(done / max(total, 1))
    if rest:
        log.write(rest.decode(errors="replace"))
        last.append(rest.decode(errors="replace"))
    return last


@contextlib.contextmanager
def _bar(label: str, usual: float, out: TextIO) -> Iterator[Report]:
    """Draws a bar twice a second while the body runs."""
    started, done = time.perf_counter(), threading.Event()
    reported: list[tuple[float, float]] = [(0.0, 0.0)]  # (seconds, share)
    is_live = out.isatty()
    blocks = 0

    def report(share: float) -> None:
        reported.append((time.perf_counter() - started, min(max(share, 0.0), 1.0)))

    def draw() -> None:
        nonlocal blocks
        passed = time.perf_counter() - started
        left = _left(passed, reported, usual)
        share = passed / max(passed + left, 1e-9)
        blocks = max(blocks, round(share * _WIDTH))  # estimates waver, work done stays done
        bar = "█" * blocks + "░" * (_WIDTH - blocks)
        text = f"{label}  {bar}  {passed:.0f} s, about {left:.0f} s left"
        print(f"\r{text}\x1b[K" if is_live else text, end="" if is_live else "\n", file=out)
        out.flush()

    def loop() -> None:
        while not done.wait(0.5 if is_live else 10.0):
            draw()

    if is_live:
        draw()
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        done.set()
        thread.join()
        if is_live:
            print("\r\x1b[K", end="", file=out)


def _left(passed: float, reported: Sequence[tuple[float, float]], usual: float) -> float:
    """Seconds left: by the rate since the first report once there are two, else by the usual."""
    (first, low), (last, high) = reported[min(1, len(reported) - 1)], reported[-1]
    if high > low and last > first:
        rate = (high - low) / (last - first)
        silent = passed - last  # the longer, the more is probably left
        return max((1.0 - high) / rate - silent, 0.5 * silent)
    # Beyond the usual time nobody knows; a fifth of what has passed is an honest guess.
    return max(usual - passed, 0.2 * passed)
