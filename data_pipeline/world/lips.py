"""Lip curves: phoneme rows in, opening and width at any time out.

The one idea: each phoneme asks for a lip position; neighbours blend into each other
(coarticulation: the requests are smoothed over about 60 ms), and a bilabial closes the lips
whatever its neighbours ask for. The curves depend on the phonemes and nothing else: not on the
person, not on the intensities.

    opening  0 closed ... 1 as far as a talking mouth opens
    width    -1 rounded ... 0 rest ... +1 spread

Invariants: during every m, b, p the opening is 0 for at least 48 ms, which is longer than a frame
at 23 frames/s, so at least one frame centre meets closed lips wherever the clip was cut.
Tests: tests/data_pipeline/world/lips_test.py.
"""

import numpy as np
from jaxtyping import Float

from data_pipeline.world import phonemes
from data_pipeline.world.speech import Utterance

_STEP = 0.002  # seconds between the points the requests are smoothed on
_OPENING_BLUR, _WIDTH_BLUR = 0.026, 0.045  # seconds, standard deviation
_CLOSED = 0.048  # seconds the lips stay closed at least
_RELEASE = 0.045  # seconds from closed to free
_STRESS_GAIN = (0.80, 0.92, 1.05)  # of a vowel's opening, by stress


def curves(
    utterance: Utterance, times: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(opening, width) at `times` seconds from the utterance's (or the cut's) start."""
    start, end = float(times[0]) - 0.5, float(times[-1]) + 0.5
    grid = np.arange(start, end, _STEP)
    opening, width = _requests(utterance, grid)
    opening = _smooth(opening, _OPENING_BLUR)
    width = _smooth(width, _WIDTH_BLUR)
    opening = np.interp(times, grid, opening)
    opening *= _closure(utterance, times, phonemes.BILABIAL)
    lip_bite = _closure(utterance, times, phonemes.LABIODENTAL)
    opening = np.minimum(opening, 0.12 + 0.88 * lip_bite)
    return np.clip(opening, 0, 1).astype(np.float32), np.interp(times, grid, width).astype(
        np.float32
    )


def _requests(
    utterance: Utterance, grid: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    opening, width = np.zeros_like(grid), np.zeros_like(grid)
    for label, stress, (begin, end) in zip(
        utterance.labels, utterance.stress, utterance.times, strict=True
    ):
        if end < grid[0] or begin > grid[-1]:
            continue
        targets = phonemes.TARGETS[label]
        gain = _STRESS_GAIN[stress] if label in phonemes.VOWELS else 1.0
        edges = np.linspace(begin, end, len(targets) + 1)
        for (target, spread), first, last in zip(targets, edges[:-1], edges[1:], strict=True):
            span = slice(*np.searchsorted(grid, (first, last)))
            opening[span] = target * gain
            width[span] = spread
    return opening, width


def _smooth(values: Float[np.ndarray, " n"], blur: float) -> Float[np.ndarray, " n"]:
    reach = int(3 * blur / _STEP)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * _STEP / blur) ** 2)
    return np.convolve(values, kernel / kernel.sum(), mode="same")


def closed_spans(utterance: Utterance, labels: frozenset[int]) -> Float[np.ndarray, "k 2"]:
    """When the lips are held by the given phonemes: [start, end] s, each at least 48 ms long."""
    chosen = np.isin(utterance.labels, sorted(labels))
    spans = utterance.times[chosen]
    middle = spans.mean(axis=1)
    half = np.maximum(spans[:, 1] - spans[:, 0], _CLOSED) / 2
    # a long one does not hold all its time: the lips move at its edges
    half = np.maximum(half - 0.012, _CLOSED / 2)
    return np.stack([middle - half, middle + half], axis=1)


def _closure(
    utterance: Utterance, times: Float[np.ndarray, " n"], labels: frozenset[int]
) -> Float[np.ndarray, " n"]:
    spans = closed_spans(utterance, labels)
    if not len(spans):
        return np.ones_like(times)
    gap = np.maximum(spans[None, :, 0] - times[:, None], times[:, None] - spans[None, :, 1])
    near = np.clip(gap.min(axis=1) / _RELEASE, 0, 1)
    return near * near * (3 - 2 * near)
