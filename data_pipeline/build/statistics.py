"""What is known about a corpus as a whole: rank tables of both intensities, counts, rejects.

The variance behind an intensity has a long tail, so the number a model is told is its rank in the
corpus: 0.5 is the median clip (other `SCALES` are linear, and put the typical clip far below). The
sorted values stay with the data set, so that new clips can be placed among them.
Tests: tests/data_pipeline/build/statistics_test.py.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

Scale = Literal["rank", "percentiles", "range"]
LARGEST_TABLE = 10_001  # rows; beyond, quantiles stand for the values


def rank_table(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " rows"]:
    """The sorted values, thinned to quantiles where there are very many."""
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) > LARGEST_TABLE:
        ordered = np.quantile(ordered, np.linspace(0, 1, LARGEST_TABLE))
    return ordered


def rank(value: float, table: Float[np.ndarray, " rows"]) -> float:
    """Share of the table below `value`, ties counted half: 0-1, the median is 0.5."""
    below = np.searchsorted(table, value, "left")
    up_to = np.searchsorted(table, value, "right")
    return float(below + up_to) / (2 * len(table)) if len(table) else 0.5


def linear(
    value: float, table: Float[np.ndarray, " rows"], low: float = 0.0, high: float = 1.0
) -> float:
    """Place of `value` between two quantiles of the table, cut off at 0 and 1."""
    if not len(table):
        return 0.5
    least, most = np.quantile(table, (low, high))
    return float(np.clip((value - least) / (most - least), 0, 1)) if most > least else 0.5


SCALES: dict[Scale, Callable[[float, np.ndarray], float]] = {
    "rank": rank,
    "percentiles": functools.partial(linear, low=0.01, high=0.99),
    "range": linear,
}
"""How an intensity in 0-1 is made of a variance and the table of the corpus."""


def summary(
    clips: int, seconds: float, rejects: Mapping[str, str], tables: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """The content of statistics.json.

    Args:
        clips: records written.
        seconds: their length together.
        rejects: id -> reason of every clip that was left out.
        tables: name of an intensity -> its rank table.
    """
    return {
        "clips": clips,
        "hours": seconds / 3600,
        "rejects": dict(sorted(Counter(rejects.values()).items())),
        "rejected": dict(sorted(rejects.items())),
        "rank_tables": {name: [float(v) for v in table] for name, table in tables.items()},
    }
