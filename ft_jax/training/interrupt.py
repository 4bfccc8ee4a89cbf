"""SIGTERM and SIGINT asked for politely: a question that the loop asks between two steps.

One process reads its own flag. Of several, all must save after the same step: there SIGTERM belongs
to the preemption service of `jax.distributed`, which tells every process of a signal to any, and
agrees on a step that none has begun. Needs no device.

Tests: tests/training/loop_test.py (a run that is told to stop saves and resumes), hosts_test.py
(two processes, one is told).
"""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

CODE = 75
"""Exit status of a run that was told to stop and has saved: run the same command again."""


class Interrupt:
    """A context in which the first signal is noted, and a second one acts as usual."""

    def __init__(self) -> None:
        """Changes nothing before it is entered."""
        self._asked = False
        self._alone = jax.process_count() == 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if self._alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def asked(self, step: int) -> bool:
        """Whether to stop before `step`; to be asked before every step, by every process."""
        return self._asked if self._alone else multihost_utils.reached_preemption_sync_point(step)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
