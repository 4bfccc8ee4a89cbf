"""A profile of some steps, in WORKDIR/profile, to be looked at with xprof or TensorBoard.

Tests: tests/training/profile_test.py.
"""

from collections.abc import Callable
from pathlib import Path

import jax

from ft_jax.errors import UsageError


class Profile:
    """Traces the steps from the first to before the second number of `steps`."""

    def __init__(self, workdir: Path, steps: tuple[int, int], settle: Callable[[], None]) -> None:
        """Starts nothing; two equal numbers trace nothing.

        Args:
          workdir: Folder of the run.
          steps: First step and the one after the last.
          settle: Waits for the device: a trace holds whole steps.

        Raises:
          UsageError: The numbers are out of order.
        """
        first, last = steps
        if not 0 <= first <= last:
            raise UsageError(f"watch.profile: got {steps}; expected two steps in order")
        self._place, self._first, self._last = workdir / "profile", first, last
        self._settle, self._runs = settle, False

    def before(self, step: int) -> None:
        """Is told of every step before it begins."""
        if step == self._last and self._runs:
            self._settle()
            self.close()
        elif self._first <= step < self._last and not self._runs:
            self._settle()
            jax.profiler.start_trace(str(self._place))
            self._runs = True

    def close(self) -> None:
        """Ends a trace that still runs."""
        if self._runs:
            self._runs = False
            jax.profiler.stop_trace()
