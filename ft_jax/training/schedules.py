"""Learning rate over steps, by name: linear warm-up, then constant or a cosine.

Stage 1 holds the rate, stage 2 lets it fall along a cosine to `final_rate` (decisions: the paper
gives only 1e-4).

Tests: tests/training/optim_test.py.
"""

import dataclasses
from typing import Literal

import optax

from ft_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Config:
    """A learning-rate curve."""

    kind: Literal["constant", "cosine"]
    rate: float  # after the warm-up
    warmup_steps: int
    final_rate: float  # at the last step of a cosine; constant ignores it


def make(cfg: Config, num_steps: int) -> optax.Schedule:
    """The schedule of `cfg` over `num_steps` steps.

    Raises:
      UsageError: The warm-up is longer than the run, or a rate is negative.
    """
    if not 0 <= cfg.warmup_steps <= num_steps:
        raise UsageError(
            f"optim.schedule.warmup_steps: {cfg.warmup_steps}; expected 0 to num_steps, {num_steps}"
        )
    if min(cfg.rate, cfg.final_rate) < 0:
        raise UsageError(f"optim.schedule.rate: {cfg.rate}; expected no negative rate")
    warmup = optax.linear_schedule(0.0, cfg.rate, max(cfg.warmup_steps, 1))
    if cfg.kind == "constant":
        after = optax.constant_schedule(cfg.rate)
    else:
        alpha = cfg.final_rate / cfg.rate if cfg.rate else 0.0
        after = optax.cosine_decay_schedule(
            cfg.rate, max(num_steps - cfg.warmup_steps, 1), alpha=alpha
        )
    if cfg.warmup_steps == 0:
        return after
    return optax.join_schedules([warmup, after], [cfg.warmup_steps])
