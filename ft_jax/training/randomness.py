"""Every random number of a run: fold_in(fold_in(key(seed), step), purpose).

No key is ever stored, split in sequence or passed from step to step, so a resumed run draws what an
uninterrupted one would have drawn, and a new draw never shifts the others. Purposes are a closed
list; their position is part of the reproducibility of old runs, so append only.

Tests: tests/training/randomness_test.py.
"""

import jax
from jaxtyping import Array, Bool, Key

PURPOSES = (
    "init",
    "noise",
    "sigma",
    "drop_image",
    "drop_audio",
    "drop_text",
    "drop_identity",
    "lip",
    "crop",
    "augment",
    "latent",
    "microbatch",
    "frames",
    "blur",
)


def step_key(seed: int, step: int | jax.Array) -> Key[Array, ""]:
    """The key of one training step."""
    return jax.random.fold_in(jax.random.key(seed), step)


def draw(key: Key[Array, ""], purpose: str) -> Key[Array, ""]:
    """The key of one `purpose` within the step of `key`.

    Raises:
      ValueError: The purpose is not in `PURPOSES`.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r}; expected one of {PURPOSES}")
    return jax.random.fold_in(key, PURPOSES.index(purpose))


def happens(
    key: Key[Array, ""], purpose: str, probability: float, samples: int
) -> Bool[Array, " b"]:
    """One independent yes or no per sample."""
    return jax.random.bernoulli(draw(key, purpose), probability, (samples,))
