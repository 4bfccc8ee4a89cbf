"""Whose face is it? The nearest of some reference faces, by the face encoder.

In: embeddings of the faces measured in the frames of a clip, and one reference embedding per
person. Out: the index of the nearest person and how similar it is. Embeddings are compared by the
cosine; a clip is the mean of its unit-length frame embeddings.

Invariant: a clip in which no face was measured is nobody (-1), which counts as wrong.

Tests: tests/eval/identity_test.py.
"""

import numpy as np
from jaxtyping import Float, Int

NOBODY = -1


def unit(embeddings: Float[np.ndarray, "*b ce"]) -> Float[np.ndarray, "*b ce"]:
    """Embeddings scaled to length 1; zeros stay zeros."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(length > 0, length, 1.0)


def clip_embedding(embeddings: Float[np.ndarray, "f ce"]) -> Float[np.ndarray, " ce"]:
    """One embedding for the faces of a clip; frames without a face (NaN) are left out."""
    seen = np.isfinite(embeddings).all(-1)
    if not seen.any():
        return np.zeros(embeddings.shape[-1])
    return unit(unit(embeddings[seen].astype(np.float64)).mean(0))


def nearest(
    clips: Float[np.ndarray, "b ce"], references: Float[np.ndarray, "y ce"]
) -> Int[np.ndarray, " b"]:
    """Index of the reference with the largest cosine; `NOBODY` for a clip without a face."""
    cosine = unit(clips) @ unit(references).T
    return np.where(np.any(clips != 0, -1), cosine.argmax(-1), NOBODY)


def last_third(frames: int) -> slice:
    """The frames of the last third of a clip."""
    return slice(frames - max(1, frames // 3), frames)
