"""How well lips and sound of a clip fit, as the published sync scores say it.

Every fifth of a second of lips is compared with the sound around it: the mean distance of the two
vectors of `syncnet`, once for each shift of the sound by up to 15 frames.

    distance     the least of these means                     (LSE-D, Sync-D; smaller is better)
    confidence   their median minus the least                 (LSE-C, Sync-C; larger is better)
    offset       the shift of the least

Beyond the ends of the sound stand vectors of zeros, and the last piece of a clip is left out, both
as in the published scores; in clips of a few seconds much of the outer shifts is such zeros. The
published programs print the offset with the other sign.

Shapes (letters: ft_jax/typing.py)
    crops    [f 224 224 3]   25 frames a second, of ft_jax/media/face_track.py, red first
    speech   [x]             16 kHz, 16 bits; 640 samples a frame
    lips, sound  [pieces o]  vectors

Source: SyncNetInstance.py of syncnet_python. Tests: tests/models/lip_sync_test.py,
tests/parity/syncnet_parity_test.py.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int16, UInt8

from ft_jax.media.cepstrum import cepstrum
from ft_jax.models import syncnet
from ft_jax.typing import Params

NAME = "SyncNet"
REACH = 15  # frames of shift to either side
BATCH = 16  # pieces that go through a network together
_SAMPLES, _COLUMNS = 640, 4  # of sound, and of its cepstrum, during a frame
_APART = 1e-6  # added to every difference, as PyTorch's pairwise_distance does


@dataclasses.dataclass(frozen=True)
class Score:
    """Of one clip.

    Attributes:
        distance: mean distance at the best shift.
        confidence: by how much that is below the median over the shifts.
        offset: frames of 1/25 s by which the sound comes later than the picture.
    """

    distance: float
    confidence: float
    offset: int


def score(
    lips: Float[np.ndarray, "pieces o"], sound: Float[np.ndarray, "pieces o"], reach: int = REACH
) -> Score:
    """The score of a clip's vectors, piece by piece in their order."""
    pieces = len(lips)
    padded = np.pad(sound.astype(np.float64), ((reach, reach), (0, 0)))
    means = np.array(
        [
            np.linalg.norm(lips - padded[start : start + pieces] + _APART, axis=-1).mean()
            for start in range(2 * reach + 1)
        ]
    )
    best = int(means.argmin())
    return Score(float(means[best]), float(np.median(means) - means[best]), best - reach)


def pieces(frames: int, samples: int) -> int:
    """Pieces of five frames and their sound in a clip, less the last."""
    return max(0, min(frames, samples // _SAMPLES) - syncnet.FRAMES)


def measure(
    params: Params,
    cfg: syncnet.Config,
    crops: UInt8[np.ndarray, "f 224 224 3"],
    speech: Int16[np.ndarray, " x"],
) -> Score | None:
    """The score of a clip, or None where it is too short to have one (five frames and less)."""
    count = pieces(len(crops), len(speech))
    if not count:
        return None
    columns = cepstrum(speech)
    heard = np.lib.stride_tricks.sliding_window_view(columns, syncnet.COLUMNS, axis=1)
    seen = np.lib.stride_tricks.sliding_window_view(crops[..., ::-1], syncnet.FRAMES, axis=0)
    return score(
        _vectors(functools.partial(_lips, params, cfg), np.moveaxis(seen[:count], -1, 1)),
        _vectors(
            functools.partial(_sound, params, cfg), heard[:, ::_COLUMNS].swapaxes(0, 1)[:count]
        ),
    )


def _vectors(
    run: Callable[[np.ndarray], jax.Array], given: np.ndarray
) -> Float32[np.ndarray, "pieces o"]:
    """Runs a network in batches of one size, so that it is compiled once."""
    made = []
    for start in range(0, len(given), BATCH):
        rows = np.minimum(np.arange(start, start + BATCH), len(given) - 1)
        made.append(np.asarray(run(given[rows])))
    return np.concatenate(made)[: len(given)]


# Layers take weights of any type to that of what passes through.
@functools.partial(jax.jit, static_argnums=1)
def _lips(params: Params, cfg: syncnet.Config, lips: jax.Array) -> jax.Array:
    return syncnet.embed_lips(params, cfg, lips.astype(jnp.float32))


@functools.partial(jax.jit, static_argnums=1)
def _sound(params: Params, cfg: syncnet.Config, heard: jax.Array) -> jax.Array:
    return syncnet.embed_audio(params, cfg, heard)
