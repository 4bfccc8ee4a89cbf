"""Clips longer than the model has seen: overlapping windows, denoised together.

A clip of T latent frames is covered by windows as long as in training. Every window is a clip of
its own to the network: its first latent frame is the portrait, and the speech it hears is cut and
normalised as in training. Window 0 starts the clip. The portrait frame of a later window is not in
the clip (`Plan.ids` gives it a number behind all others); the other windows overrule what the
network makes of the frames just behind it.

    clip       0 1 2 3 4 5 6 7 8 9 . . .
    window 0   0 1 2 3 4 5 6 7 8
    window 1             P 6 7 8 9 . . .        overlap 3; P is the portrait again

Where windows overlap their velocities are averaged in every step, each weighing less towards its
own ends, so that one passes smoothly into the next.

Lengths. Latent frame 0 stands for video frame 0, latent frame g for the frames 4 g - 3 .. 4 g. The
plan covers at least the frames asked for; the rest is cut off after decoding.

Source: FantasyTalking's advice for long clips (overlapping windows blended in latent space); that
each window brings its own first frame is ours: the codec's first latent frame is one picture, all
others are four, and a picture in the middle of a clip would be neither.
Tests: tests/sampling/long_video_test.py.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int

from ft_jax.errors import UsageError

STRIDE = 4  # video frames per latent frame after the first


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a clip is cut into windows.

    Attributes:
      frames: Video frames of the clip, what was asked for.
      latents: Latent frames of the clip; they decode to at least `frames`.
      starts: Video frame of each window's first frame.
      ids: Latent frame of the clip, or a number from `latents` on for the extra portrait frames.
      weights: How much a window counts there.
    """

    frames: int
    latents: int
    starts: tuple[int, ...]
    ids: Int[np.ndarray, "b t"]
    weights: Float[np.ndarray, "b t"]

    @property
    def order(self) -> Int[np.ndarray, "t 2"]:
        """Where to find each latent frame of the clip: its first (window, position)."""
        flat = self.ids.reshape(-1)
        _, first = np.unique(flat, return_index=True)
        return np.stack(np.divmod(first[: self.latents], self.ids.shape[1]), axis=1)


def frame_count(seconds: float, fps: float) -> int:
    """Video frames that last as long as `seconds` to within half a frame; at least one."""
    return max(1, round(seconds * fps))


def plan(frames: int, window: int, overlap: int) -> Plan:
    """Cuts a clip into windows.

    Args:
      frames: Video frames wanted.
      window: Latent frames of a window, as in training.
      overlap: Latent frames that neighbouring windows share, at least; the last window ends with
        the clip and may share more.

    Raises:
      UsageError: The overlap leaves nothing new for a window.
    """
    if not 0 <= overlap < window - 1:
        raise UsageError(f"overlap: got {overlap}; expected 0 to {window - 2} latent frames")
    latents = max(window, -(-(frames - 1) // STRIDE) + 1)
    body = window - 1  # what a later window adds, its portrait frame apart
    firsts = list(range(window - overlap, latents - body, body - overlap))
    if latents > window:
        firsts.append(latents - body)
    ids = [np.arange(window)]
    ids += [
        np.concatenate([[latents + k], np.arange(first, first + body)])
        for k, first in enumerate(firsts)
    ]
    ramp = np.minimum(np.arange(1, body + 1), np.arange(body, 0, -1)) / (overlap + 1)
    weights = np.concatenate([[1.0], np.minimum(ramp, 1.0)])
    return Plan(
        frames=frames,
        latents=latents,
        starts=(0, *(STRIDE * (first - 1) for first in firsts)),
        ids=np.stack(ids),
        weights=np.repeat(weights[None], len(ids), axis=0),
    )


def cut_speech(
    speech: Float32[np.ndarray, " x"], starts: tuple[int, ...], samples: int, fps: float, rate: int
) -> Float32[np.ndarray, "b x2"]:
    """The speech of every window, filled up with silence behind the end.

    Args:
      speech: The whole recording.
      starts: First video frame of each window.
      samples: Length of a window.
      fps: Video frames per second.
      rate: Samples per second.
    """
    firsts = [round(start / fps * rate) for start in starts]
    padded = np.pad(speech, (0, max(0, firsts[-1] + samples - speech.shape[0])))
    return np.stack([padded[first : first + samples] for first in firsts])


def normalise(
    cuts: Float32[np.ndarray, "b x"], least_share: float = 0.01
) -> Float32[np.ndarray, "b x"]:
    """Zero mean and unit variance for every cut, as the speech encoder was trained.

    A cut in a pause of a long recording holds nothing but noise, and would be blown up to speech:
    its variance counts as at least `least_share` of the loudest cut's.
    """
    centred = cuts - cuts.mean(axis=1, keepdims=True)
    variance = centred.var(axis=1, keepdims=True)
    variance = np.maximum(variance, least_share * variance.max())
    return (centred / np.sqrt(variance + 1e-7)).astype(np.float32)


def spread(values: tuple[float, ...], windows: int) -> Float32[np.ndarray, " b"]:
    """One value for every window, from values that stand evenly spread over the clip."""
    places = np.linspace(0.0, 1.0, len(values))
    return np.interp(np.linspace(0.0, 1.0, windows), places, values).astype(np.float32)


def frame_noise(
    seed: int, ids: Int[np.ndarray, "b t"], shape: tuple[int, int, int]
) -> Float32[np.ndarray, "b t h w c"]:
    """Normal noise [h w c] for every latent frame, the same for copies of one frame.

    A frame's noise depends on the seed and its number only, so that more speech at the end changes
    nothing about the noise at the beginning, nor does what else is in a batch.
    """
    numbers, places = np.unique(ids, return_inverse=True)
    drawn = [
        np.random.Generator(np.random.Philox(key=[seed, int(number)])).standard_normal(
            shape, np.float32
        )
        for number in numbers
    ]
    return np.stack(drawn)[places.reshape(ids.shape)]
