"""How much a clip moves, how smoothly, and whether that follows the two intensities.

In: the measures of each frame (`instrument`). Out: the expression and the body intensity of the
clip, its jerk, and the rank correlation with what was asked for. Intensity is the variance over the
clip, averaged over the measured points: brows, lids and cheeks for the expression (measured
relative to the head, so that a nod is not an expression), head and shoulders for the body.

Shapes: a track is [f c], one column per measured coordinate; NaN marks frames without measurement.

Invariants: a still clip has intensity and jerk 0; intensity does not change when time is reversed;
the rank correlation does not change under any increasing map of either side.

Source: paper section 3.4 (variance of landmark and joint sequences) with the project's choices.
Tests: tests/eval/motion_test.py.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

# The instrument measures in head heights and in pictures; these bring its values to the units of
# the two intensities (mean person of the drawn world; a constant factor changes no comparison).
EYE_DISTANCE = 0.34  # in head heights
LID_TRAVEL = 0.107  # head heights between a shut and a normally open lid
SHOULDER_WIDTH = 0.72  # in pictures

Tracks = Mapping[str, np.ndarray]
"""Name of a measure -> its value in every frame."""


def expression_tracks(tracks: Tracks) -> Float[np.ndarray, "f c"]:
    """Brows, cheeks and lids in eye distances."""
    lid = tracks["lid"] * LID_TRAVEL
    return np.stack([tracks["brow"], tracks["cheek"], lid], -1) / EYE_DISTANCE


def body_tracks(tracks: Tracks) -> Float[np.ndarray, "f c"]:
    """Head and shoulders in shoulder widths."""
    return np.stack([tracks[name] for name in ("head_x", "head_y", "shoulder")], -1) / (
        SHOULDER_WIDTH
    )


def intensity(tracks: Float[np.ndarray, "f c"], least: float = 0.5) -> float:
    """Variance over the measured frames, mean over the coordinates; 0 if hardly any was measured.

    Args:
      tracks: One column per coordinate, in units of the face (or shoulder) width.
      least: Share of the frames that must be measured.
    """
    seen = np.isfinite(tracks).all(-1)
    return float(tracks[seen].var(0).mean()) if seen.mean() >= least else 0.0


def jerk(tracks: Float[np.ndarray, "f c"], fps: float) -> float:
    """Root mean square of the third derivative, mean over coordinates, per second cubed.

    Only runs of four measured frames count; a clip without one has jerk 0.
    """
    third = np.diff(tracks, n=3, axis=0) * fps**3
    seen = np.isfinite(third).all(-1)
    return float(np.sqrt(np.square(third[seen]).mean(0)).mean()) if seen.any() else 0.0


def at_intensity(
    wanted: Float[np.ndarray, " s"],
    intensities: Float[np.ndarray, " b"],
    values: Float[np.ndarray, " b"],
    neighbours: int = 9,
) -> Float[np.ndarray, " s"]:
    """What clips of the wanted intensities show: mean over the nearest in log intensity.

    Args:
      wanted: Intensities to look up.
      intensities: Intensity of each known clip.
      values: What was measured in each known clip, for example its jerk.
      neighbours: How many known clips are averaged.
    """
    floor = 1e-12
    distance = np.abs(np.log(wanted[:, None] + floor) - np.log(intensities[None] + floor))
    order = np.argsort(distance, axis=-1, kind="stable")[:, :neighbours]
    return values[order].mean(-1)


def ranks(values: Float[np.ndarray, "*b s"]) -> Float[np.ndarray, "*b s"]:
    """Ranks from 1 along the last axis; equal values share the mean of their ranks."""
    rows = values.reshape(-1, values.shape[-1])
    ordered = np.sort(rows, axis=-1)
    result = np.empty(rows.shape, np.float64)
    for row, known, into in zip(rows, ordered, result, strict=True):
        below, upto = np.searchsorted(known, row, "left"), np.searchsorted(known, row, "right")
        into[:] = (below + upto + 1) / 2
    return result.reshape(values.shape)


def rank_correlation(
    first: Float[np.ndarray, "*b s"], second: Float[np.ndarray, "*b s"]
) -> Float[np.ndarray, "*b"]:
    """Spearman's correlation along the last axis; 0 where either side is constant."""
    x, y = (ranks(v) - (v.shape[-1] + 1) / 2 for v in (first, second))
    power = np.square(x).sum(-1) * np.square(y).sum(-1)
    return np.where(power > 0, (x * y).sum(-1) / np.sqrt(np.where(power > 0, power, 1.0)), 0.0)
