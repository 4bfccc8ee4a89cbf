"""The program of a training step: what the loop compiles and the planner looks at.

Tests: tests/training/loop_test.py, tests/plan/program_test.py.
"""

import functools
from typing import Any

import jax

from ft_jax.training import flops, optim, origin, randomness, step
from ft_jax.training.stages import Stage


def update(stage: Stage, planned: origin.Plan, cfg: optim.Config, seed: int) -> Any:
    """(state, frozen, batch) -> (state, metrics), jitted, not yet lowered; takes over the state."""
    function = functools.partial(
        step.train_step,
        stage=stage,
        optimizer=planned.optimizer,
        seed=seed,
        accumulate=cfg.accumulate,
        ema=cfg.ema,
    )
    where = jax.tree.map(lambda leaf: leaf.sharding, planned.state)
    return jax.jit(function, donate_argnums=0, out_shardings=(where, None))


def useful(stage: Stage, params: Any, frozen: Any, batch: Any) -> float:
    """Operations that a step of (abstract) `params`, `frozen` and `batch` cannot do without."""

    def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
        return stage.loss(params, frozen, batch, randomness.step_key(0, 0), True)[0]

    return flops.of_step(loss, params, frozen, batch)
