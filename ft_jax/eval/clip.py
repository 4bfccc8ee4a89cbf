"""Everything that can be said about one clip on its own, by name.

In: what the instrument measured, how loud the clip is in every frame, and, where it is known, the
true opening of its speech. Out: {name: value}. Names whose ground is missing are left out; a clip
in which nothing could be measured scores 0, it is not left out.

Tests: tests/eval/clip_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int

from ft_jax.eval import lips, motion
from ft_jax.eval.instrument import Measured

CLOSED = 0.02  # head heights between the lips: a tenth of the widest opening
QUIET_DB = -50.0  # below the loudest frame: silence

MEANINGS = {
    "measured": "frames in which a face is seen, share",
    "lips_loudness": "lip opening against the loudness of the clip, r",
    "lips_truth": "lip opening against the opening of this speech, r",
    "closure": "lips closed on m, b, p, share",
    "opening": "mean lip opening, head heights",
    "expression": "expression intensity, eye distances squared",
    "body": "body intensity, shoulder widths squared",
    "expression_jerk": "jerk of the expression, eye distances/s^3",
    "body_jerk": "jerk of head and shoulders, shoulder widths/s^3",
}


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is known about the speech of a clip."""

    opening: Float[np.ndarray, " f"]  # in any unit
    spans: Int[np.ndarray, "s 2"]  # frames of each m, b, p


def loudness(
    speech: Float32[np.ndarray, " x"], rate: int, frames: int, fps: float
) -> Float[np.ndarray, " f"]:
    """How loud each frame sounds: 0 silent (50 dB below the loudest) to 1.

    Args:
      speech: Mono.
      rate: Samples per second.
      frames: Of the clip; silence is added where the sound is shorter.
      fps: Frames per second.
    """
    edges = np.rint(np.arange(frames + 1) / fps * rate).astype(int)
    padded = np.pad(speech, (0, max(0, int(edges[-1]) - len(speech))))
    power = np.add.reduceat(np.square(padded[: edges[-1]], dtype=np.float64), edges[:-1])
    decibel = 10 * np.log10(np.maximum(power / np.diff(edges), 1e-12))
    return np.clip(1 - (decibel - decibel.max()) / QUIET_DB, 0.0, 1.0)


def scores(
    found: Measured, fps: float, loud: Float[np.ndarray, " f"], truth: Truth | None = None
) -> dict[str, float]:
    """The values of one clip; names and units in `MEANINGS`.

    Args:
      found: By the instrument.
      fps: Frames per second.
      loud: See `loudness`.
      truth: Of the speech, if known.
    """
    opening = found.tracks["lip_opening"]
    values = {
        "measured": float(np.isfinite(opening).mean()),
        "opening": float(np.nanmean(opening)) if np.isfinite(opening).any() else 0.0,
        "lips_loudness": float(lips.correlation(opening, loud)),
    }
    if truth is not None:
        frames = min(len(opening), len(truth.opening))
        values["lips_truth"] = float(lips.correlation(opening[:frames], truth.opening[:frames]))
        counted = lips.closures(opening, truth.spans, CLOSED)
        if counted.spoken:
            values["closure"] = counted.closed / counted.spoken
    for name, tracks in (
        ("expression", motion.expression_tracks(found.tracks)),
        ("body", motion.body_tracks(found.tracks)),
    ):
        values[name] = motion.intensity(tracks)
        values[f"{name}_jerk"] = motion.jerk(tracks, fps)
    return values
