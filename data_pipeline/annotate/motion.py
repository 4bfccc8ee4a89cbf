"""How much a face and a body move in a clip: the two numbers behind omega_l and omega_b.

expression_raw  landmarks without the lips, rigid head motion removed, in inter-ocular distances
body_raw        joints in shoulder widths
Both: variance over the clip, mean over points and coordinates. The build turns them into ranks
within the corpus, because the variance has a long tail.

Rigid motion is removed in two steps, or the number would measure the head: rotation, translation
and scale bring each frame's points onto the clip's mean shape (`align`); then what a turning head
does to its picture is fitted and taken off (`unturn`). Lips are left out, or a low setting would
mute the mouth.

Shapes: landmarks [f points 2] and joints [f joints 3] in pixels (x, y, visibility); NaN = not seen.
Invariants: moving, tilting or enlarging the whole face changes nothing, and turning it hardly
anything; neither does the resolution; moving lips change nothing.
Source: paper section 3.4 (omega_l, omega_b), project decisions.
Tests: tests/data_pipeline/annotate/motion_test.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

LEAST_FRAMES = 4  # a variance over fewer frames says nothing about a clip
ROUNDS = 4  # of aligning to the mean shape; it stands still after two or three


def expression_raw(
    landmarks: Float[np.ndarray, "f points 2"],
    lips: Sequence[int],
    eyes: tuple[Sequence[int], Sequence[int]],
    *,
    head: bool = False,
) -> float:
    """Variance of the face's own motion, in inter-ocular distances squared.

    Args:
        landmarks: pixels; NaN in a whole frame (no face) or for a point that is never known.
        lips: every landmark of the mouth; they do not count (none: the mouth counts).
        eyes: landmarks of the left and of the right eye.
        head: whether the rigid motion of the head counts.

    Returns:
        NaN if fewer than LEAST_FRAMES frames show the face.
    """
    seen = np.all(np.isfinite(landmarks), axis=-1)
    shown = landmarks[seen.any(1)].astype(np.float64)
    if len(shown) < LEAST_FRAMES:
        return float("nan")
    known = seen[seen.any(1)].all(0)  # an annotator need not know every point of its mesh
    known[list(lips)] = False
    aligned = shown[:, known]
    mean = aligned.mean(0)
    if not head:
        aligned, mean = align(aligned)
        aligned = unturn(aligned, mean)
    left, right = (mean[np.isin(np.flatnonzero(known), list(eye))].mean(0) for eye in eyes)
    distance = float(np.linalg.norm(left - right))
    return float((aligned / distance).var(0).mean()) if distance > 0 else float("nan")


def body_raw(joints: Float[np.ndarray, "f joints 3"], shoulders: tuple[int, int]) -> float:
    """Variance of the visible joints, in shoulder widths squared.

    Args:
        joints: x, y in pixels and visibility 0-1; a joint counts where it is above one half.
        shoulders: the two joints whose mean distance is the unit.

    Returns:
        NaN if the shoulders or every joint are seen in fewer than LEAST_FRAMES frames.
    """
    places = joints[..., :2].astype(np.float64)
    seen = (joints[..., 2] > 0.5) & np.isfinite(places).all(-1)
    both = seen[:, shoulders[0]] & seen[:, shoulders[1]]
    counts = seen.sum(0) >= max(LEAST_FRAMES, len(joints) / 2)
    if both.sum() < LEAST_FRAMES or not counts.any():
        return float("nan")
    span = places[both, shoulders[0]] - places[both, shoulders[1]]
    unit = np.linalg.norm(span, axis=-1).mean()
    variances = [(places[seen[:, j], j] / unit).var(0).mean() for j in np.flatnonzero(counts)]
    return float(np.mean(variances)) if unit > 0 else float("nan")


def align(
    shapes: Float[np.ndarray, "f points 2"],
) -> tuple[Float[np.ndarray, "f points 2"], Float[np.ndarray, "points 2"]]:
    """Brings every frame onto the mean shape by rotation, translation and scale.

    The mean shape keeps the size of the first frame, so the unit of the result is still pixels.
    """
    centred = shapes - shapes.mean(1, keepdims=True)
    # In the complex plane a rotation with a scale is one factor, found in closed form.
    points = centred[..., 0] + 1j * centred[..., 1]
    mean = points[0]
    size = np.linalg.norm(mean)
    aligned = points
    for _ in range(ROUNDS):
        factor = (points.conj() @ mean) / np.maximum(np.square(np.abs(points)).sum(1), 1e-12)
        aligned = points * factor[:, None]
        mean = aligned.mean(0)
        mean = mean * (size / max(float(np.linalg.norm(mean)), 1e-12))
    return np.stack([aligned.real, aligned.imag], -1), np.stack([mean.real, mean.imag], -1)


def unturn(
    aligned: Float[np.ndarray, "f points 2"], mean: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "f points 2"]:
    """Takes off what turning and nodding add to a frame.

    A head turned by a small angle moves each point by its depth times the angle, and the depth of
    a face is nearly a quadratic function of the place on it. So each frame is fitted to the mean
    shape by 1, x, y, x^2, y^2. Too few points for such a fit are left as they are.
    """
    if len(mean) < 10:
        return aligned
    unit = np.sqrt(np.square(mean).mean())
    fitted = np.empty_like(aligned)
    for place, frame in enumerate(aligned):
        x, y = frame.T / unit
        basis = np.stack([np.ones_like(x), x, y, x * x, y * y], -1)
        fitted[place] = basis @ np.linalg.lstsq(basis, mean, rcond=None)[0]
    return fitted
