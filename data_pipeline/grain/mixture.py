"""Which of several things comes next, by weight: a pure function of (seed, place in the order).

Places come in cycles of `CYCLE`. In a cycle each thing has its whole number of turns, by largest
remainder, in an order drawn from (seed, cycle). So the number of earlier turns of a thing is known
without walking there, and what follows never depends on how the place was reached.

Tests: tests/data_pipeline/grain/mixture_test.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

CYCLE = 1000  # turns; weights are met to a thousandth


class Mixture:
    """An endless order of turns.

    Args:
        weights: of each thing; need not sum to 1.
        seed: of the order; several numbers.
    """

    def __init__(self, weights: Sequence[float], seed: tuple[int, ...]) -> None:
        share = np.asarray(weights, np.float64) / np.sum(weights) * CYCLE
        self._turns = np.floor(share).astype(np.int64)
        rest = np.argsort(self._turns - share, kind="stable")[: CYCLE - int(self._turns.sum())]
        self._turns[rest] += 1
        things = np.repeat(np.arange(len(share)), self._turns)
        # Threads that read ahead are in two cycles at once.
        self._cycle = functools.lru_cache(4)(
            lambda cycle: np.random.default_rng((*seed, cycle)).permutation(things)
        )

    def turn(self, place: int) -> tuple[int, int]:
        """The thing at `place`, and how many turns it has had before."""
        cycle, within = divmod(place, CYCLE)
        order = self._cycle(cycle)
        thing = int(order[within])
        before = np.count_nonzero(order[:within] == thing)
        return thing, int(cycle * self._turns[thing] + before)
