"""A number over many clips with its 95 % interval: the paired percentile bootstrap.

In: one or more arrays whose first axis is the clip, and the statistic that turns them into one
number. Out: the number, its interval and the count. The one idea: the same clips are drawn from
every array ("paired"), so a difference or a ratio of two arms that saw the same face, speech and
noise keeps what they share out of its interval.

Invariants: the result depends on the samples and the seed alone; `value` is the statistic of the
samples as they are, not a mean over draws; an interval of no clips is 0 with an unbounded interval.

Tests: tests/eval/bootstrap_test.py.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Statistic = Callable[..., np.ndarray]
"""Arrays [draws, clips, ...] in, one number per draw out."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A statistic of `count` clips and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float
    count: int


def mean(samples: Float[np.ndarray, "*b s"]) -> np.ndarray:
    """The mean over clips, one per draw."""
    return samples.mean(-1)


def difference(samples: Float[np.ndarray, "*b s"], others: Float[np.ndarray, "*b s"]) -> np.ndarray:
    """Mean over clips of the paired difference."""
    return (samples - others).mean(-1)


def ratio(samples: Float[np.ndarray, "*b s"], others: Float[np.ndarray, "*b s"]) -> np.ndarray:
    """Sum over clips divided by the sum of the others; 0 where the others sum to 0."""
    above, below = samples.sum(-1), others.sum(-1)
    safe = np.where(below == 0, 1.0, below)
    return np.where(below == 0, 0.0, above / safe)


def bootstrap(
    statistic: Statistic,
    *samples: np.ndarray,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The statistic of all clips and its percentile interval over resampled clips.

    Args:
      statistic: Called once on [1, clips, ...] and once per chunk on [draws, clips, ...] arrays.
      *samples: Arrays with the same first axis; row i of each belongs to the same clip.
      draws: How many times the clips are resampled.
      seed: Of the resampling.
      level: Share of draws inside the interval.
    """
    arrays = [np.asarray(values, np.float64) for values in samples]
    count = len(arrays[0])
    if any(len(values) != count for values in arrays):
        raise ValueError(f"paired samples of {[len(values) for values in arrays]} clips")
    if count == 0:
        return Interval(0.0, -np.inf, np.inf, 0)
    value = float(statistic(*(values[None] for values in arrays))[0])
    rows = np.random.default_rng(seed).integers(count, size=(draws, count))
    # Chunks bound the memory: a sweep is [draws, 200, 5].
    chunks = np.array_split(rows, max(1, draws // 250))
    drawn = np.concatenate([statistic(*(values[rows] for values in arrays)) for rows in chunks])
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high), count)
