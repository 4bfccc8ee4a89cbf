"""What a user gives -> what the denoiser is told: the frozen encoders of a system at work.

  picture    codec([picture, then grey]) and image encoder
  prompt     text encoder; "" is the dropped prompt of training (rows of zeros)
  speech     one cut per window, each normalised and encoded as in training
  face       face encoder; None is the dropped identity of training

Everything runs in float32 at batch sizes that recur, so that each encoder is compiled once.
Shapes: pictures [b H W 3] uint8; cuts [b x] float32; -> fantasy.Conditions of b rows.
Tests: tests/sampling/pipeline_test.py.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt8

from ft_jax.models import clip, face, landmarks, text, vae, wav2vec2
from ft_jax.models.system import System
from ft_jax.sampling.portrait import Seen
from ft_jax.typing import Params

ROWS = 8  # at once through an encoder; the last part is filled up


class Encoders:
    """The encoders of one system; every method takes and gives numpy arrays, one row a sample."""

    def __init__(
        self,
        system: System,
        params: Mapping[str, Params],
        pieces: vae.Pieces = vae.WHOLE,
    ) -> None:
        """Keeps the parts; nothing is compiled before it is used.

        Args:
            system: Of the parts.
            params: Their weights.
            pieces: Of a clip in the codec; only what is decoded is cut into tiles.
        """
        self.system, self._params, self._pieces = system, params, pieces

    def pictures(
        self, pictures: UInt8[np.ndarray, "b H W 3"]
    ) -> tuple[Float32[np.ndarray, "b t h w c"], Float32[np.ndarray, "b i ci"]]:
        """Condition latents and image tokens of pictures of the model's size."""
        system = self.system
        still = np.zeros((len(pictures), system.frames, *pictures.shape[1:]), np.float32)
        still[:, 0] = pictures / np.float32(127.5) - 1.0
        encode = functools.partial(_video_latents, chunk=self._pieces.chunk)
        latents = self._run("codec", encode, still)
        return latents, self._run("image", _image_tokens, pictures)

    def prompts(self, prompts: Sequence[str]) -> Float32[np.ndarray, "b s cs"]:
        """Text rows, filled up with zeros to the length the denoiser takes."""
        length = self.system.denoiser.dit.text_tokens
        ids, mask = text.tokenize(self.system.text, prompts, length)
        mask &= np.array([bool(prompt.strip()) for prompt in prompts])[:, None]
        rows = self._run("text", _text_tokens, *text.shortened(ids, mask))
        return np.pad(rows, ((0, 0), (0, length - rows.shape[1]), (0, 0)))

    def speech(self, cuts: Float32[np.ndarray, "b x"]) -> Float32[np.ndarray, "b a ca"]:
        """Speech features of normalised cuts."""
        return self._run("speech", _speech_features, cuts)

    def faces(self, crops: UInt8[np.ndarray, "b _ _ 3"]) -> Float32[np.ndarray, "b ce"]:
        """Unit-length embeddings of face crops."""
        return self._run("face", _face_embedding, crops)

    def look(self) -> Callable[[np.ndarray], Seen] | None:
        """The landmark network on one picture, if there is one."""
        cfg = self.system.landmarks
        if cfg is None or "landmarks" not in self._params:
            return None
        tilt = cfg.measures.index("head_tilt") if "head_tilt" in cfg.measures else None

        def look(picture: np.ndarray) -> Seen:
            values, box, visible = self._run("landmarks", _measures, picture[None])
            left, top, right, bottom = (float(side) for side in box[0])
            angle = 0.0 if tilt is None else float(values[0, tilt])
            return Seen((left, top, right, bottom), angle, float(visible[0]))

        return look

    def decode(self, latents: Float32[np.ndarray, "b t h w c"]) -> UInt8[np.ndarray, "b f H W 3"]:
        """Frames of latents, rounded to 8 bits."""
        return self._run("codec", functools.partial(_decode, pieces=self._pieces), latents)

    def _run(self, part: str, function: Any, *arrays: np.ndarray) -> Any:
        """Runs a jitted function in parts of ROWS rows (a single row stays single)."""
        rows = arrays[0].shape[0]
        size = 1 if rows == 1 else ROWS
        cfg, params = getattr(self.system, part), self._params[part]
        made = []
        for start in range(0, rows, size):
            order = np.minimum(np.arange(start, start + size), rows - 1)
            made.append(function(params, cfg, *(array[order] for array in arrays)))
        return jax.tree.map(lambda *x: np.concatenate([np.asarray(y) for y in x])[:rows], *made)


_jit = functools.partial(jax.jit, static_argnames=("cfg",))


@functools.partial(jax.jit, static_argnames=("cfg", "chunk"))
def _video_latents(params: Params, cfg: vae.Config, video: jax.Array, chunk: int) -> jax.Array:
    return vae.encode(params, cfg, video, vae.Pieces(chunk))


@_jit
def _image_tokens(params: Params, cfg: clip.Config, pictures: jax.Array) -> jax.Array:
    return clip.encode(params, cfg, clip.preprocess(cfg, _signed(pictures)))


@_jit
def _text_tokens(params: Params, cfg: text.Config, ids: jax.Array, mask: jax.Array) -> jax.Array:
    # A prompt without tokens has nothing to attend to: its rows are zeros by definition.
    tokens = text.encode(params, cfg, ids, mask | (jnp.arange(ids.shape[1]) == 0)[None])
    return jnp.where(mask[..., None], tokens, 0.0)


@_jit
def _speech_features(params: Params, cfg: wav2vec2.Config, cuts: jax.Array) -> jax.Array:
    return wav2vec2.encode(params, cfg, cuts)


@_jit
def _face_embedding(params: Params, cfg: face.Config, crops: jax.Array) -> jax.Array:
    return face.embed(params, cfg, _signed(crops))


@_jit
def _measures(
    params: Params, cfg: landmarks.Config, frames: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    made = landmarks.measure(params, cfg, _signed(frames))
    return made.values, made.box, made.visible


@functools.partial(jax.jit, static_argnames=("cfg", "pieces"))
def _decode(params: Params, cfg: vae.Config, latents: jax.Array, pieces: vae.Pieces) -> jax.Array:
    video = jnp.clip(vae.decode(params, cfg, latents, pieces), -1.0, 1.0)
    return jnp.round((video + 1.0) * 127.5).astype(jnp.uint8)


def _signed(pixels: jax.Array) -> jax.Array:
    return pixels.astype(jnp.float32) / 127.5 - 1.0
