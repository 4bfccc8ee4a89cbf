"""The frozen encoders of a bundle, run on cuts: what the denoiser is trained on.

  video_latents      codec(clip)
  condition_latents  codec([first frame, then zeros])
  image_tokens       image encoder(first frame)
  text_tokens        text encoder(caption), rows of its true length
  audio_features     speech encoder(exactly this cut, normalised over it)
  identity           face encoder(reference crop), unit length

Weights are used as the bundle holds them (bfloat16), computed in float32, results stored in
bfloat16. Batches are padded to one size, so every encoder is compiled once.

Invariant: the result of a clip does not depend on the clips encoded beside it.
Tests: tests/data_pipeline/build/records_test.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8

from ft_jax.errors import UsageError

PARTS = ("codec", "speech", "text", "image", "face")
BATCH = 8  # clips that go through an encoder together


class Encoders:
    """The encoders of one system; the weights stay behind when it is sent to a worker.

    Args:
        path: of a bundle, a folder of weights or a run.

    Attributes:
        system: configuration of the whole system.
        hashes: part -> fingerprint.

    Raises:
        UsageError: the weights cannot be read or lacks an encoder.
    """

    def __init__(self, path: str) -> None:
        from ft_jax.checkpoints import handover
        from ft_jax.checkpoints.tree import fingerprint
        from ft_jax.config import build, to_dict
        from ft_jax.models.system import System

        source = handover.read(path)
        self.path = path
        self.system = build(System, source.system, path)
        self._params: dict[str, Any] = {name: source.part(name) for name in PARTS}
        self.hashes = {
            name: fingerprint(to_dict(getattr(self.system, name)), params)
            for name, params in self._params.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name in ("path", "system", "hashes")
        }

    @property
    def widths(self) -> dict[str, int]:
        """The letters of the data set that these encoders fix."""
        system = self.system
        return {
            "c": system.codec.channels,
            "i": system.image.tokens,
            "ci": system.image.width,
            "cs": system.text.width,
            "ca": system.speech.width,
            "ce": system.face.width,
        }

    @property
    def face_size(self) -> int:
        """Pixels of the face crop along each side."""
        return self.system.face.pixels

    def check(self, frames: int, fps: float, height: int, width: int) -> None:
        """Refuses cuts of another length or size than the system's.

        Raises:
            UsageError: names the setting and both values.
        """
        wanted = {"frames": frames, "fps": fps, "height": height, "width": width}
        for name, value in wanted.items():
            made_for = getattr(self.system, name)
            if made_for != value:
                raise UsageError(f"{name}: {value}; the system of {self.path} has {made_for}")

    def encode(
        self,
        frames: UInt8[np.ndarray, "b f H W 3"],
        audio: Int16[np.ndarray, "b x"],
        captions: Sequence[str],
        faces: UInt8[np.ndarray, "b size size 3"],
    ) -> list[dict[str, np.ndarray]]:
        """The encoded fields of several clips.

        Args:
            frames: at the model's size.
            audio: 16 kHz mono of the cuts.
            captions: prompts.
            faces: crops of the reference faces.
        """
        rows: list[dict[str, np.ndarray]] = []
        for start in range(0, len(frames), BATCH):
            piece = slice(start, start + BATCH)
            rows += self._encode(frames[piece], audio[piece], captions[piece], faces[piece])
        return rows

    def _encode(
        self, frames: np.ndarray, audio: np.ndarray, captions: Sequence[str], faces: np.ndarray
    ) -> list[dict[str, np.ndarray]]:
        import ml_dtypes

        from ft_jax.models import text

        count = len(frames)
        length = self.system.denoiser.dit.text_tokens
        ids, mask = text.tokenize(self.system.text, captions, length)
        padded = [_pad(values) for values in (frames, audio, ids, mask, faces)]
        made = {name: np.asarray(value)[:count] for name, value in self._run(*padded).items()}
        rows = []
        for row in range(count):
            fields = {
                name: values[row].astype(np.float32 if name == "identity" else ml_dtypes.bfloat16)
                for name, values in made.items()
            }
            fields["text_tokens"] = fields["text_tokens"][: int(mask[row].sum())]
            rows.append(fields)
        return rows

    @functools.cached_property
    def _run(self) -> Callable[..., dict[str, Any]]:
        import jax
        import jax.numpy as jnp

        weights = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), self._params)
        return functools.partial(_compiled(self.system), weights)


@functools.cache
def _compiled(system: Any) -> Callable[..., dict[str, Any]]:
    """(weights, frames, audio, ids, mask, faces) -> encoded fields; compiled once a system."""
    import jax
    import jax.numpy as jnp

    from ft_jax.models import clip, face, text, vae, wav2vec2

    def run(weights, frames, audio, ids, mask, faces):
        video = _scaled(frames)
        still = jnp.zeros_like(video).at[:, 0].set(video[:, 0])
        both = vae.encode(weights["codec"], system.codec, jnp.concatenate([video, still]))
        picture = clip.preprocess(system.image, video[:, 0])
        waveform = wav2vec2.normalise_waveform(audio.astype(jnp.float32) / 32767)
        return {
            "video_latents": both[: len(video)],
            "condition_latents": both[len(video) :],
            "image_tokens": clip.encode(weights["image"], system.image, picture),
            "text_tokens": text.encode(weights["text"], system.text, ids, mask),
            "audio_features": wav2vec2.encode(weights["speech"], system.speech, waveform),
            "identity": face.embed(weights["face"], system.face, _scaled(faces)),
        }

    return jax.jit(run)


def _scaled(pixels: Any) -> Any:
    """0..255 to -1..1."""
    return pixels.astype("float32") / 127.5 - 1


def _pad(values: np.ndarray) -> np.ndarray:
    """Repeats the last row up to BATCH."""
    missing = BATCH - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, 0)]) if missing else values
