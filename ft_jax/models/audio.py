"""Speech: features in, one more attention term per DiT block out.

The features of the speech encoder are projected once, keys and values of all blocks are made from
them, and the video tokens attend to them in one of two modes that share every weight:

  clip    every video token sees every audio token              (stage 1; no windows)
  frame   tokens of latent frame t see the window of frame t    (stage 2, inference)

Where the paper is silent `Config` has the alternatives: what clip mode hears, what lies in a window
beyond the speech, and what a sample without speech hears.

There are no positions in this attention: in frame mode time comes from the window alone, in clip
mode from the speech encoder's own convolution.

Shapes (letters: ft_jax/typing.py)
  features   [b a ca]           last hidden state of the speech encoder, about 50 tokens a second
  tokens     [b a c]            c = `token_width`, after projection and norm
  windows    index, mask [t p]  from `frame_windows`, on the host
  returns    Term               keys and values [layers b a n k]

Key and value kernels start at zero, so that at step 0 the network equals the base model.

Source: FantasyTalking sec. 3.2; AudioProjModel, split_audio_sequence. Differs: windows are indices
and a mask, not padded copies. Tests: tests/models/audio_test.py, benchmarks/goldens_dit.py.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ft_jax.errors import UsageError
from ft_jax.models.term import AudioWindows as AudioWindows
from ft_jax.models.term import Term, make_term, stacked_linear
from ft_jax.nn.linear import Linear
from ft_jax.nn.norm import LayerNorm

LATENT_STRIDE = 4  # video frames per latent frame, the first apart
EXTRA_TOKENS = 4  # added to each window on both sides


Mode = Literal["clip", "frame"]
Silence = Literal["muted", "zeros"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the speech branch, and how it hears; defaults are the released weights'.

    Attributes:
      feature_width: Of the speech encoder.
      token_width: Of the audio tokens.
      clip: What clip mode hears: each of the "tokens" once; or the "windows" of all frames side by
        side, where tokens of two windows count twice.
      padding: Places of a window before and after the speech are "masked"; or "heard" as keys of
        zero, which draws attention away from the first and the last frames.
      silence: Without speech the term is "muted", times 0; or features of "zeros" are heard.
    """

    feature_width: int = 768
    token_width: int = 2048
    clip: Literal["tokens", "windows"] = "tokens"
    padding: Literal["masked", "heard"] = "masked"
    silence: Silence = "muted"


def windows(cfg: Config, mode: Mode, audio_tokens: int, frames: int) -> AudioWindows | None:
    """What each latent frame hears in a mode; None: every token of the clip.

    Args:
      cfg: Says what clip mode hears and what padding is.
      mode: "clip" or "frame".
      audio_tokens: Of the clip, a.
      frames: Video frames, 4n + 1.

    Raises:
      UsageError: As `frame_windows`.
    """
    if mode == "clip" and cfg.clip == "tokens":
        return None
    own = frame_windows(audio_tokens, frames)
    if cfg.padding == "heard":  # a place beyond the last token holds zeros
        own = AudioWindows(
            np.where(own.mask, own.index, np.int32(audio_tokens)), np.ones_like(own.mask)
        )
    if mode == "frame":
        return own
    latents = len(own.index)
    index, mask = (np.tile(x.reshape(1, -1), (latents, 1)) for x in (own.index, own.mask))
    return AudioWindows(index, mask)


def frame_windows(audio_tokens: int, frames: int) -> AudioWindows:
    """The audio tokens of each latent frame, for any length and frame rate.

    A window is centred a little before the middle of the four video frames of its latent frame and
    reaches half of (tokens per latent frame) to both sides, both ends included, plus four tokens;
    the first latent frame, a single video frame, gets the window that ends where the next begins.
    Truncations are the official ones: they decide the width (17 at 23 frames/s, 15 at 25).

    Args:
      audio_tokens: Tokens the speech encoder made of the whole clip.
      frames: Video frames, 4n + 1.

    Raises:
      UsageError: `frames` is not 4n + 1, or a length is not positive.
    """
    if frames < 1 or (frames - 1) % LATENT_STRIDE:
        raise UsageError(f"frames: got {frames}; expected 4n + 1")
    if audio_tokens < 1:
        raise UsageError(f"audio_tokens: got {audio_tokens}; expected at least 1")
    per_frame = audio_tokens / frames
    half = int(per_frame * LATENT_STRIDE / 2)
    starts = []
    for latent in range(1, (frames - 1) // LATENT_STRIDE + 1):
        first, last = (per_frame * (LATENT_STRIDE * (latent - back) + 1) for back in (1, 0))
        starts.append(int((first + last) / 2) - 1 - half)
    # A lone frame has no successor; its window is centred on the start.
    starts.insert(0, starts[0] - 2 * half if starts else -half)
    width = 2 * half + 1 + 2 * EXTRA_TOKENS
    index = np.array(starts)[:, None] - EXTRA_TOKENS + np.arange(width)
    mask = (index >= 0) & (index < audio_tokens)
    return AudioWindows(np.where(mask, index, 0).astype(np.int32), mask)


class AudioBranch(nn.Module):
    """Projector, and keys and values of all blocks."""

    cfg: Config
    layers: int
    heads: int
    width: int
    dtype: Any

    def setup(self) -> None:
        """Declares the projector (as PyTorch starts a linear layer) and the zero kernels."""
        cfg = self.cfg
        self.projector = Linear(
            cfg.feature_width, cfg.token_width, ("context_embed", "embed"), use_bias=False
        )
        self.norm = LayerNorm(cfg.token_width, 1e-5)
        self.key = stacked_linear(self.layers, cfg.token_width, self.width, self.dtype)
        self.value = stacked_linear(self.layers, cfg.token_width, self.width, self.dtype)

    def project(self, features: Float[Array, "b a ca"]) -> Float[Array, "b a c"]:
        """Audio tokens, in float32: the reference keeps the projector out of its bf16 region."""
        return self.norm(self.projector(features.astype(jnp.float32)))

    def __call__(
        self,
        features: Float[Array, "b a ca"],
        scale: Float[Array, " b"],
        windows: AudioWindows | None = None,
    ) -> Term:
        """The term every block adds; `scale` 0 silences a sample."""
        tokens = self.project(features)
        return make_term(self.key(tokens), self.value(tokens), self.heads, scale, windows)
