"""One model family: the sizes of all its networks together, and the clips it was made for.

A shipped file, a checkpoint and a training run carry one of these; the parts fit each other or
`check` says which do not. Plain dictionaries become a `System` with `ft_jax.config.build` and go
back with `ft_jax.config.to_dict`.

Tests: tests/models/system_test.py.
"""

import dataclasses
import functools

import jax
from flax.core import meta

from ft_jax.errors import UsageError
from ft_jax.models import clip, face, fantasy, landmarks, syncnet, text, vae, wav2vec2
from ft_jax.typing import Params

_ENCODERS = {
    "codec": vae,
    "speech": wav2vec2,
    "text": text,
    "image": clip,
    "face": face,
    "landmarks": landmarks,
    "sync": syncnet,
}
PARTS = ("denoiser", *_ENCODERS)
"""Names of what a system may consist of: fields of `System`, and first words of parameter paths."""

REST = "rest"
"""First word of the paths, beside the parts, of tensors that no network reads: they came in a
published file and leave in one, bit for bit."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What the weights of a family are best sampled with; settings of a run may say otherwise.

    Attributes:
        shift: of the noise levels towards noise.
        text: strength of the guidance by text; 1 switches it off.
        audio: likewise by speech.
    """

    shift: float
    text: float
    audio: float


@dataclasses.dataclass(frozen=True)
class System:
    """Configs of all parts.

    Attributes:
        denoiser: the network that makes video.
        codec: pixels <-> latents.
        speech: speech encoder.
        text: text encoder.
        image: image encoder.
        face: face encoder.
        landmarks: the measuring instrument of the drawn world; None for real video.
        frames: pixel frames of a clip, 4n + 1.
        fps: frames per second.
        height: pixel rows.
        width: pixel columns.
        sampling: what its weights are best sampled with.
        sync: the networks behind the published sync scores, for photographs; only measurements
            need them. Families that were saved before there were any do not say it.
    """

    denoiser: fantasy.Config
    codec: vae.Config
    speech: wav2vec2.Config
    text: text.Config
    image: clip.Config
    face: face.Config
    landmarks: landmarks.Config | None
    frames: int
    fps: float
    height: int
    width: int
    sampling: Sampling
    sync: syncnet.Config | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(t, h, w, c) of a clip's latents."""
        return latent_shape(self, self.frames)


def latent_shape(system: System, frames: int) -> tuple[int, int, int, int]:
    """(t, h, w, c) of the latents of so many frames.

    Raises:
        UsageError: the frames are not 4n + 1.
    """
    codec = system.codec
    if frames < 1 or (frames - 1) % codec.time_factor:
        raise UsageError(f"frames: {frames}; expected {codec.time_factor}n + 1")
    space = codec.space_factor
    rows, columns = system.height // space, system.width // space
    return (frames - 1) // codec.time_factor + 1, rows, columns, codec.channels


@functools.lru_cache(maxsize=64)
def abstract(system: System, part: str) -> Params:
    """Shapes and types of the parameters of one part, whose config must be there; no memory."""
    if part == "denoiser":
        return meta.unbox(fantasy.abstract_params(system.denoiser))
    init = functools.partial(_ENCODERS[part].init, cfg=getattr(system, part))
    return jax.eval_shape(init, jax.random.key(0))


def check(system: System) -> None:
    """Says which parts do not fit each other.

    Raises:
        UsageError: all misfits in one message.
    """
    dit = system.denoiser.dit
    pairs = [
        (
            "denoiser.dit.latent_channels",
            dit.latent_channels,
            "codec.channels",
            system.codec.channels,
        ),
        ("denoiser.dit.text_width", dit.text_width, "text.width", system.text.width),
    ]
    if dit.image_width is not None:
        pairs += [("denoiser.dit.image_width", dit.image_width, "image.width", system.image.width)]
    if (audio := system.denoiser.audio) is not None:
        wide = audio.feature_width
        pairs += [("denoiser.audio.feature_width", wide, "speech.width", system.speech.width)]
    if (identity := system.denoiser.identity) is not None:
        wide = identity.embedding_width
        pairs += [("denoiser.identity.embedding_width", wide, "face.width", system.face.width)]
    faults = [f"{a} is {x} and {b} is {y}" for a, x, b, y in pairs if x != y]
    space = system.codec.space_factor * dit.patch[1]
    faults += [
        f"{name} is {size}, not a multiple of {space}"
        for name, size in (("height", system.height), ("width", system.width))
        if size % space
    ]
    if (system.frames - 1) % system.codec.time_factor:
        faults.append(f"frames is {system.frames}, not {system.codec.time_factor}n + 1")
    if faults:
        raise UsageError("system: " + "; ".join(faults) + "; expected parts that fit each other")
