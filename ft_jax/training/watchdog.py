"""A watch over hangs: where no step ends for so long, the stack of every thread goes to a file.

The dump is made by a thread of `faulthandler` that needs neither the interpreter nor its lock, so
it also tells of a process that sits in a collective or a file system. The run goes on if it can; a
further dump follows after every further silence.

Tests: tests/training/watchdog_test.py.
"""

import faulthandler
from pathlib import Path

import jax


class Watchdog:
    """One watch for the whole process, as `faulthandler` has only one."""

    def __init__(self, workdir: Path, seconds: float) -> None:
        """Waits for the first `beat`; 0 seconds: watches nothing."""
        self._path = workdir / f"hang.{jax.process_index()}.txt"
        self._seconds = seconds
        self._file = self._path.open("a") if seconds else None

    def beat(self) -> None:
        """A step has begun: the seconds count anew."""
        if self._file is not None:
            faulthandler.dump_traceback_later(self._seconds, repeat=True, file=self._file)

    def close(self) -> None:
        """Stops watching; a file without a dump goes."""
        if self._file is not None:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            if not self._path.stat().st_size:
                self._path.unlink()
