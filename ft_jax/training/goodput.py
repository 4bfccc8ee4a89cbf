"""Where the hours of a run went: seconds by cause, cumulative over restarts.

The total runs from the first start until now, pauses between a kill and the next start included.
What is not lost to one of `CAUSES` is productive. The sums travel in the log's own lines: a run
that continues reads the last line ever written, and books as `restart` the time since then and the
work after the checkpoint, which has to be done again.

Tests: tests/training/goodput_test.py.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CAUSES = ("start", "data", "checkpoint", "evaluation", "preview", "restart")
"""Reading weights and compiling; waiting for batches; the part of saving that is waited for; ..."""


class Goodput:
    """The books of one run."""

    def __init__(self, lines: Sequence[Mapping[str, Any]], step: int, now: float) -> None:
        """Continues the books.

        Args:
          lines: All lines of the log, those beyond the checkpoint included.
          step: Of the checkpoint that the run continues from.
          now: When this process began its work, in seconds of `time.time`.
        """
        self._began, self._before = now, 0.0
        self._lost: dict[str, float] = dict.fromkeys(CAUSES, 0.0)
        booked = [line for line in lines if "goodput" in line]
        if booked:
            last = booked[-1]["goodput"]
            kept = [line["goodput"] for line in booked if line["step"] <= step]
            again = last["productive"] - (kept[-1]["productive"] if kept else 0.0)
            gap = max(now - booked[-1]["time"], 0.0)
            self._before = last["total"] + gap
            self._lost |= {cause: last[cause] for cause in CAUSES}
            self._lost["restart"] += gap + again

    @contextlib.contextmanager
    def lost(self, cause: str) -> Iterator[None]:
        """Books the time inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(cause, time.perf_counter() - began)

    def add(self, cause: str, seconds: float) -> None:
        """Books some seconds."""
        self._lost[cause] += seconds

    def books(self, now: float) -> dict[str, float]:
        """Seconds by cause, `total`, `productive`, and what share of the total that is."""
        total = self._before + now - self._began
        productive = max(total - sum(self._lost.values()), 0.0)
        share = productive / max(total, 1e-9)
        return {"share": share, "total": total, "productive": productive, **self._lost}
