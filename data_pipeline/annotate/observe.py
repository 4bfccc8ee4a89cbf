"""Chooses the annotator of a clip.

A drawn clip brings its truth; its annotator reads what was drawn. Annotators for real clips (a
landmark detector, a pose detector, a forced alignment) return the same `Observation` and are chosen
here.
Tests: tests/data_pipeline/build/build_test.py.
"""

import pathlib

from data_pipeline.annotate.observation import Observation
from ft_jax.errors import UsageError


def observe(truth: pathlib.Path | None, frames: int, fps: float) -> Observation:
    """What is known about the first `frames` frames of a clip.

    Args:
        truth: file of a drawn clip; None for a recorded one.
        frames: length of the cut.
        fps: frames per second.

    Raises:
        UsageError: there is no annotator for this clip, or its truth cannot be read.
    """
    if truth is None:
        raise UsageError("no truth file; only drawn clips can be annotated so far")
    from data_pipeline.annotate.truth import annotate

    return annotate(truth, frames, fps)
