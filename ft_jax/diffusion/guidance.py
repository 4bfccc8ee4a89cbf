"""Guidance by text and by speech: three predictions in, one velocity out.

    v = v_none + text (v_text - v_none) + audio (v_full - v_text)

  v_full  prompt and speech          v_text  prompt, no speech          v_none  negative prompt,
                                                                                no speech

The first frame is the same in all three; identity and motion are too, unless settings say
otherwise. "No speech" is the audio term times 0, not silence through the speech encoder. With text
guidance 1 the third prediction cancels.

Source: FantasyTalking sec. 3.5; wan_video.py of the release. Some ports hear speech in the negative
pass: this cuts its weight from `audio` to `audio - (text - 1)`.
Tests: tests/diffusion/guidance_test.py.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Config:
    """Strength of both, 1 and 1 is the plain conditional prediction; what v_none knows."""

    text: float = 5.0
    audio: float = 4.5
    identity: bool = True  # whether v_none knows the face
    motion: bool = True  # whether it knows the intensities, or has neutral ones

    @property
    def branches(self) -> int:
        """Predictions needed per step: 1, 2 (text guidance 1) or 3."""
        if self.text != 1.0:
            return 3
        return 2 if self.audio != 1.0 else 1


def combine(
    full: Float[Array, "*b"],
    text: Float[Array, "*b"],
    unconditional: Float[Array, "*b"] | None,
    cfg: Config,
) -> Float[Array, "*b"]:
    """The guided velocity, from the predictions of the branches; see the head of this file.

    `unconditional` may be None only where text guidance is 1.
    """
    guided = text + cfg.audio * (full - text)
    if unconditional is None:
        if cfg.text != 1.0:
            raise ValueError("text guidance needs the unconditional prediction")
        return guided
    return unconditional + cfg.text * (text - unconditional) + cfg.audio * (full - text)


def combine_stacked(velocity: Float[Array, "b *c"], cfg: Config) -> Float[Array, "_ *c"]:
    """`combine` for one batch that holds the branches one after the other: [full, text, none]."""
    parts = jnp.split(velocity, cfg.branches)
    if cfg.branches == 1:
        return parts[0]
    return combine(parts[0], parts[1], parts[2] if cfg.branches == 3 else None, cfg)
