"""SIGTERM and SIGINT asked for politely: a flag that the loop reads between two steps.

Tests: tests/training/loop_test.py (a run that is told to stop saves and resumes).
"""

import signal
import threading
from types import FrameType
from typing import Any

CODE = 75
"""Exit status of a run that was told to stop and has saved: run the same command again."""


class Interrupt:
    """A context in which the first signal sets `asked`, and a second one acts as usual."""

    def __init__(self) -> None:
        """Changes nothing before it is entered."""
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
