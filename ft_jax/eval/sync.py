"""SyncNet's numbers of a clip, LSE-D and LSE-C, by the rules of ft_jax/models/lip_sync.py.

In: decoded frames, their rate, the sound. The face is looked for in every frame with OpenCV's
cascades; the published numbers took another detector (S3FD), whose boxes end elsewhere, so ours
compare clips with each other, and with published ones only as far as the same clip gives the same
in both. No face that can be followed: no confidence, and no distance, for which 0 would be perfect.

Tests: tests/eval/sync_test.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from ft_jax.errors import UsageError
from ft_jax.media import face_track
from ft_jax.media.face_detection import find_face
from ft_jax.models import lip_sync, syncnet
from ft_jax.typing import Params

MEANINGS = {
    "lse_d": "SyncNet's distance of lips and sound (LSE-D), smaller is better",
    "lse_c": "SyncNet's confidence (LSE-C)",
    "sync_offset": "sound later than picture, frames of 1/25 s",
}
_SPEECH_RATE = 16_000
_NO_BOX = (np.nan,) * 4


class Listener:
    """SyncNet with its weights.

    Args:
      cfg: Its sizes; None where the system has none.
      params: Its weights, of any float type.

    Raises:
      UsageError: The system has no SyncNet.
    """

    def __init__(self, cfg: syncnet.Config | None, params: Params) -> None:
        if cfg is None:
            raise UsageError("sync: not part of this system; expected one with SyncNet")
        self._cfg = cfg
        self._params = jax.tree.map(jnp.asarray, dict(params))

    def scores(
        self, frames: UInt8[np.ndarray, "f H W 3"], fps: float, speech: Float32[np.ndarray, " x"]
    ) -> dict[str, float]:
        """The numbers of one clip by the names in `MEANINGS`."""
        shown = face_track.at_25(len(frames), fps)
        faces = [find_face(frame) for frame in frames]
        boxes = np.array([face.box if face else _NO_BOX for face in faces], np.float64)
        track = face_track.track(frames[shown], boxes[shown])
        if track is None:
            return {"lse_c": 0.0}
        samples = np.rint(np.clip(speech, -1, 1) * 32767).astype(np.int16)
        heard = samples[track.start * _SPEECH_RATE // face_track.RATE :]
        found = lip_sync.measure(self._params, self._cfg, track.crops, heard)
        if found is None:
            return {"lse_c": 0.0}
        return {
            "lse_d": found.distance,
            "lse_c": found.confidence,
            "sync_offset": float(found.offset),
        }
