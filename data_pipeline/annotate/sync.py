"""Does the mouth move with the sound? One number, and the shift at which it is largest.

    lip_audio_correlation   opening of the lips against loudness, nothing learned; it tells a clip
                            whose sound was swapped or shifted by half a second
    follow                  the face as SyncNet looks at it, where the weights have SyncNet
                            (ft_jax/models/lip_sync.py gives the score)

The two are not comparable; a record's provenance says which of them made it.

Shapes: opening [f], audio [x] at 16 kHz, frames [f H W 3], boxes [f 4].
Invariant: shifting the sound by whole frames shifts the offset by as many.
Tests: tests/data_pipeline/annotate/sync_test.py.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float, Int16, UInt8

from ft_jax.media import face_track

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


@dataclasses.dataclass(frozen=True)
class Followed:
    """A face and the sound from its first crop on, at 25 frames a second."""

    crops: UInt8[np.ndarray, "shown 224 224 3"]
    speech: Int16[np.ndarray, " x"]


def follow(
    frames: UInt8[np.ndarray, "f H W 3"],
    boxes: Float[np.ndarray, "f 4"],
    audio: Int16[np.ndarray, " x"],
    fps: float,
) -> Followed | None:
    """What SyncNet compares, or None where the face is hardly seen.

    Args:
        frames: of the clip, in its own size and rate.
        boxes: of the face, relative to (width, height); NaN where it is not seen.
        audio: sound of the clip.
        fps: frames per second.
    """
    shown = face_track.at_25(len(frames), fps)
    height, width = frames.shape[1:3]
    found = face_track.track(frames[shown], boxes[shown] * [width, height, width, height])
    if found is None:
        return None
    return Followed(found.crops, audio[found.start * SAMPLE_RATE // face_track.RATE :])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    seen = np.isfinite(a)
    a, b = a[seen], b[seen]
    if len(a) < 2 * MAX_SHIFT or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
