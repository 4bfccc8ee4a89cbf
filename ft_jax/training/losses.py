"""What is minimised, as functions of arrays: no parameters, no randomness.

The flow loss is the squared error of the velocity. Frame-level training counts only the lip region
for most samples; that sum is divided by max(area, 1 % of the grid), because an undivided one would
weigh next to nothing beside a whole-frame loss, and a plain mean would explode on a one-cell mask.

Source: paper sec. 3.2 eq. 3 (L' = M * L); normalisation ours. Tests: tests/training/losses_test.py.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Num

from ft_jax.errors import UsageError

LEAST_AREA = 0.01
"""Share of the latent grid below which a lip region counts as this large."""


def squared_error(
    predicted: Float[Array, "b t h w c"], target: Float[Array, "b t h w c"]
) -> Float[Array, "b t h w"]:
    """Mean over the channels of the squared difference, in float32."""
    difference = predicted.astype(jnp.float32) - target.astype(jnp.float32)
    return jnp.mean(jnp.square(difference), axis=-1)


def whole(error: Float[Array, "b t h w"]) -> Float[Array, " b"]:
    """Mean over the whole grid of each sample."""
    return jnp.mean(error, axis=(1, 2, 3))


def region(error: Float[Array, "b t h w"], mask: Float[Array, "b t h w"]) -> Float[Array, " b"]:
    """Mean over the region `mask` (0-1) of each sample, its area taken as at least LEAST_AREA."""
    area = jnp.sum(mask, axis=(1, 2, 3))
    least = LEAST_AREA * mask[0].size
    return jnp.sum(error * mask, axis=(1, 2, 3)) / jnp.maximum(area, least)


LIP_WORDS = {
    "counts": ("alone", "added"),
    "mean_over": ("region", "frame"),
    "without": ("whole", "nothing"),
}


@dataclasses.dataclass(frozen=True)
class Lip:
    """How lips count; the first of each pair of words is the default of configs/.

    Attributes:
      probability: Of a sample being one whose lips count (paper: 1 - eta); 0: never.
      counts: "alone", instead of the whole frame; or "added" to it.
      mean_over: The "region"; or the whole "frame", as the paper's M * L read literally.
      without: What a chosen sample without a usable mask counts: the "whole" frame, or "nothing".
    """

    probability: float
    counts: str
    mean_over: str
    without: str

    def __post_init__(self) -> None:
        for name, words in LIP_WORDS.items():
            if getattr(self, name) not in words:
                value = getattr(self, name)
                raise UsageError(f"lip.{name}: {value!r}; expected {' or '.join(words)}")


def lip_or_whole(
    error: Float[Array, "b t h w"],
    mask: Float[Array, "b t h w"],
    chosen: Bool[Array, " b"],
    lip: Lip,
) -> Float[Array, " b"]:
    """The loss of each sample: of its lips if it is `chosen` and has some, else of the frame."""
    frame = whole(error)
    lips = region(error, mask) if lip.mean_over == "region" else whole(error * mask)
    if lip.counts == "added":
        lips = lips + frame
    rest = frame if lip.without == "whole" else jnp.zeros_like(frame)
    usable = jnp.any(mask > 0, axis=(1, 2, 3))
    return jnp.where(chosen, jnp.where(usable, lips, rest), frame)


def weighted(terms: Mapping[str, jax.Array], weights: Mapping[str, float]) -> Float[Array, ""]:
    """Sum of scalar `terms` times their `weights`; every term needs a weight and the reverse."""
    if set(terms) != set(weights):
        raise ValueError(f"terms {sorted(terms)} but weights {sorted(weights)}")
    return sum((weights[name] * terms[name] for name in sorted(terms)), jnp.zeros(()))


def cross_entropy(
    logits: Float[Array, "*b y"], labels: Int[Array, "*b"], smoothing: float = 0.0
) -> Float[Array, ""]:
    """Mean cross entropy of integer `labels`; a negative label counts for nothing."""
    known = labels >= 0
    targets = jax.nn.one_hot(jnp.maximum(labels, 0), logits.shape[-1])
    targets = optax.smooth_labels(targets, smoothing)
    each = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    return jnp.sum(each * known) / jnp.maximum(jnp.sum(known), 1)


def contrastive(
    one: Float[Array, "b d"], other: Float[Array, "b d"], temperature: jax.Array | float
) -> Float[Array, ""]:
    """Symmetric InfoNCE of unit-length rows: row k of `one` belongs to row k of `other`."""
    logits = one @ other.T / temperature
    labels = jnp.arange(one.shape[0])
    return 0.5 * (cross_entropy(logits, labels) + cross_entropy(logits.T, labels))


def margin_logits(
    embedding: Float[Array, "b d"],
    centres: Float[Array, "y d"],
    person: Int[Array, " b"],
    margin: float,
    scale: float,
) -> Float[Array, "b y"]:
    """ArcFace: cosines to the unit-length class centres, the true angle widened by `margin`."""
    cosine = jnp.clip(unit(embedding) @ unit(centres).T, -1 + 1e-6, 1 - 1e-6)
    angle = jnp.arccos(cosine)
    widened = jnp.cos(jnp.minimum(angle + margin, jnp.pi))
    true = jax.nn.one_hot(person, centres.shape[0], dtype=bool)
    return scale * jnp.where(true, widened, cosine)


def movement(values: Float[Array, "b f m"], known: Num[Array, "b f m"]) -> Float[Array, "b f m"]:
    """What each value differs by from its mean over the known frames; 0 where it is not known."""
    count = jnp.maximum(jnp.sum(known, axis=1, keepdims=True), 1.0)
    centre = jnp.sum(values * known, axis=1, keepdims=True) / count
    return (values - centre) * known


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Rows scaled to length 1."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def regression(
    predicted: Float[Array, "b m"], target: Float[Array, "b m"], known: Num[Array, "b m"]
) -> Float[Array, ""]:
    """Mean Huber loss (threshold 1) over the values that are `known` (1) and not (0)."""
    each = optax.huber_loss(predicted.astype(jnp.float32), target.astype(jnp.float32))
    return jnp.sum(each * known) / jnp.maximum(jnp.sum(known), 1.0)
