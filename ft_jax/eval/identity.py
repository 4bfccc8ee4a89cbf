"""Whose face is it? The nearest of some reference faces, by the face encoder.

In: frames of a clip and where the instrument saw the face in them, and one reference embedding per
person. Out: the index of the nearest person. Embeddings are compared by the cosine; a clip is the
mean of the unit-length embeddings of its frames.

Invariant: a clip in which no face was measured is nobody (-1), which counts as wrong.

Tests: tests/eval/identity_test.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from ft_jax.eval.instrument import Measured
from ft_jax.media.face_crop import face_crop
from ft_jax.models import face
from ft_jax.typing import Params

NOBODY = -1
BATCH = 33  # faces; a clip of the training length


class Encoder:
    """The face encoder with its weights, ready to look at clips.

    Args:
      cfg: Of the face encoder.
      params: Its weights, of any float type.
    """

    def __init__(self, cfg: face.Config, params: Params) -> None:
        self.cfg = cfg
        self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), dict(params))

    def embed(
        self, frames: UInt8[np.ndarray, "f H W 3"], measured: Measured
    ) -> Float[np.ndarray, "f ce"]:
        """Embedding of the face in every frame; NaN where none was measured."""
        seen = np.flatnonzero(np.isfinite(measured.boxes).all(-1))
        embeddings = np.full((len(frames), self.cfg.width), np.nan)
        scale = np.array([frames.shape[2], frames.shape[1]] * 2)
        tilts = measured.tracks.get("head_tilt", np.zeros(len(frames)))
        for start in range(0, len(seen), BATCH):
            chosen = seen[start : start + BATCH]
            crops = np.zeros((BATCH, self.cfg.pixels, self.cfg.pixels, 3), np.uint8)
            for row, index in enumerate(chosen):
                left, top, right, bottom = (float(x) for x in measured.boxes[index] * scale)
                box, tilt = (left, top, right, bottom), float(tilts[index])
                crops[row] = face_crop(frames[index], box, self.cfg.pixels, tilt)
            found = jax.device_get(_embed(self._params, self.cfg, crops))
            embeddings[chosen] = np.asarray(found)[: len(chosen)]
        return embeddings


@functools.partial(jax.jit, static_argnames="cfg")
def _embed(params: Params, cfg: face.Config, crops: jax.Array) -> jax.Array:
    return face.embed(params, cfg, crops.astype(jnp.float32) / 127.5 - 1.0)


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
