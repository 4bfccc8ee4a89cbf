"""Does the mouth move with the sound? A correlation, and the shift at which it is largest.

This is the lip-audio correlation: opening of the lips against loudness, nothing learned. It tells a
clip whose sound was swapped or shifted by half a second; it is not comparable with SyncNet's
confidence and is not called that anywhere.

Shapes: opening [f], audio [x] at 16 kHz.
Invariant: shifting the sound by whole frames shifts the offset by as many.
Tests: tests/data_pipeline/annotate/sync_test.py.
"""

import itertools

import numpy as np
from jaxtyping import Float, Int16

NAME = "lip-audio correlation"
MAX_SHIFT = 5  # frames; beyond, a talking face meets its own rhythm again
SAMPLE_RATE = 16_000


def loudness(audio: Int16[np.ndarray, " x"], frames: int, fps: float) -> Float[np.ndarray, " f"]:
    """Root mean square of the sound during each frame, on a logarithmic scale from silence up."""
    edges = np.rint(np.arange(frames + 1) / fps * SAMPLE_RATE).astype(int).clip(0, len(audio))
    sound = audio.astype(np.float64) / 32767
    power = [np.square(sound[a:b]).mean() if b > a else 0.0 for a, b in itertools.pairwise(edges)]
    return np.log1p(np.sqrt(power) * 100)


def lip_audio_correlation(
    opening: Float[np.ndarray, " f"], audio: Int16[np.ndarray, " x"], fps: float
) -> tuple[float, int]:
    """The largest correlation within MAX_SHIFT frames, and its shift.

    Args:
        opening: of the lips in each frame, any unit; NaN where they are not seen.
        audio: sound of the clip.
        fps: frames per second.

    Returns:
        Correlation, and by how many frames the sound comes later than the picture. (0, 0) where
        nothing can be said: a still mouth, constant sound, or hardly any frame seen.
    """
    sound = loudness(audio, len(opening), fps)
    best = (0.0, 0)
    for shift in sorted(range(-MAX_SHIFT, MAX_SHIFT + 1), key=abs):
        lips = opening[max(0, -shift) : len(opening) - max(0, shift)]
        heard = sound[max(0, shift) : len(sound) - max(0, -shift)]
        r = _correlation(lips, heard)
        if r > best[0]:
            best = (r, shift)
    return best


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    seen = np.isfinite(a)
    a, b = a[seen], b[seen]
    if len(a) < 2 * MAX_SHIFT or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
