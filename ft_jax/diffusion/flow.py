"""Flow matching: the path from data to noise, its velocity, and which noise levels are used.

  sigma in [0, 1]; 1 = pure noise
  x_sigma  = (1 - sigma) x_0 + sigma noise
  velocity = noise - x_0                      what the network predicts
  timestep = 1000 sigma, not rounded          what the network is told

Levels are shifted towards noise: shift(sigma) = s sigma / (1 + (s - 1) sigma), s = 5.

Source: FantasyTalking sec. 3.1; Wan2.1; diffsynth FlowMatchScheduler.
Tests: tests/diffusion/flow_test.py.
"""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ft_jax.errors import UsageError

Levels = TypeVar("Levels", float, np.ndarray, jax.Array)

POINTS = 1000  # levels that training draws from


@dataclasses.dataclass(frozen=True)
class Config:
    """How training draws noise levels and weighs them."""

    sampling: str = "uniform"  # uniform over the shifted grid | logit_normal, then shifted
    shift: float = 5.0
    mean: float = 0.0  # of the normal variable of logit_normal
    deviation: float = 1.0
    weighting: str = "none"  # none | bell: favours the middle levels

    def __post_init__(self) -> None:
        for name, options in (
            ("sampling", ("uniform", "logit_normal")),
            ("weighting", ("none", "bell")),
        ):
            if getattr(self, name) not in options:
                raise UsageError(
                    f"flow.{name}: got {getattr(self, name)!r}; expected one of {options}"
                )


def _per_sample(sigma: jax.Array, like: jax.Array) -> jax.Array:
    return sigma.reshape(sigma.shape + (1,) * (like.ndim - sigma.ndim))


def interpolate(
    clean: Float[Array, "b *c"], noise: Float[Array, "b *c"], sigma: Float[Array, " b"]
) -> Float[Array, "b *c"]:
    """The point at level sigma between data and noise."""
    sigma = _per_sample(sigma, clean)
    return (1.0 - sigma) * clean + sigma * noise


def velocity(clean: Float[Array, "b *c"], noise: Float[Array, "b *c"]) -> Float[Array, "b *c"]:
    """What the network is to predict, at every level."""
    return noise - clean


def predict_clean(
    noisy: Float[Array, "b *c"], velocity: Float[Array, "b *c"], sigma: Float[Array, " b"]
) -> Float[Array, "b *c"]:
    """The data a velocity points to."""
    return noisy - _per_sample(sigma, noisy) * velocity


def shifted(sigma: Levels, shift: float) -> Levels:
    """Moves levels towards noise; 0 and 1 stay."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_table(steps: int, shift: float = 5.0, start: float = 1.0) -> Float[np.ndarray, " s"]:
    """Noise levels of a sampler: `steps` levels from `start` down, shifted, and a final 0.

    Args:
      steps: Network evaluations.
      shift: See the head of this file.
      start: Level before the shift; 1 (Euler), 0.999 (UniPC as Wan runs it).

    Returns:
      Float32 [steps + 1].
    """
    if steps < 1:
        raise UsageError(f"steps: got {steps}; expected at least 1")
    return shifted(np.linspace(start, 0.0, steps + 1), shift).astype(np.float32)


def sample_sigma(key: jax.Array, samples: int, cfg: Config) -> Float[Array, " b"]:
    """One noise level a sample, float32."""
    if cfg.sampling == "uniform":
        grid = sigma_table(POINTS, cfg.shift)[:-1]
        return jnp.asarray(grid)[jax.random.randint(key, (samples,), 0, POINTS)]
    normal = cfg.mean + cfg.deviation * jax.random.normal(key, (samples,))
    return shifted(jax.nn.sigmoid(normal), cfg.shift)


def loss_weight(sigma: Float[Array, " b"], cfg: Config) -> Float[Array, " b"]:
    """Weight of each sample's loss; the mean over the training grid is 1."""
    if cfg.weighting == "none":
        return jnp.ones_like(sigma)
    grid = np.exp(-2 * (sigma_table(POINTS, cfg.shift)[:-1].astype(np.float64) - 0.5) ** 2)
    bell = jnp.exp(-2 * (sigma - 0.5) ** 2)
    return (bell - grid.min()) / (grid - grid.min()).mean()
