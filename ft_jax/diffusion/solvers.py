"""Solvers of the flow: a velocity at one noise level in, the sample at the next level out.

A solver with a fixed list of noise levels is a table of numbers, made once on the host in float64:
every step is a sum of the sample, earlier samples and earlier clean predictions with the
coefficients of its row. So each solver is `rows` and a `step`, fit for `lax.scan`:

    solver = euler(flow.sigma_table(30))
    state = solver.start(noise)
    for row in solver.rows:                       # or lax.scan over solver.rows
        state = solver.step(state, velocity(state.sample, row[0]), row)

  euler   x += (sigma_next - sigma) v; what FantasyTalking samples with
  unipc   order 2, predictor and corrector on clean predictions (bh2); Wan's default, fewer steps

Source: diffsynth FlowMatchScheduler; UniPC, arXiv 2302.04867, eq. 9-11, as Wan runs it.
Tests: tests/diffusion/solvers_test.py (against diffusers' scheduler).
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float


@struct.dataclass
class State:
    """What a step needs of the steps before it.

    Attributes:
      sample: At the level of the next row.
      previous: The (corrected) sample one level before; unipc only.
      clean: The clean prediction one level before.
      older: The one before that.
    """

    sample: Float[Array, "*b"]
    previous: Float[Array, "*b"] | None = None
    clean: Float[Array, "*b"] | None = None
    older: Float[Array, "*b"] | None = None


@dataclasses.dataclass(frozen=True)
class Solver:
    """A table of steps; the first number of each row is the noise level of the velocity."""

    rows: Float[np.ndarray, "s c"]
    start: Callable[[jax.Array], State]
    step: Callable[[State, jax.Array, jax.Array], State]


def euler(sigmas: Float[np.ndarray, " s"]) -> Solver:
    """First order, along the velocity.

    Args:
      sigmas: Falling noise levels, the last one 0: one more than there are steps.
    """
    rows = np.stack([sigmas[:-1], sigmas[1:]], axis=1).astype(np.float32)
    return Solver(rows, State, _euler_step)


def _euler_step(state: State, velocity: jax.Array, row: jax.Array) -> State:
    return State(state.sample + (row[1] - row[0]) * velocity)


def unipc(sigmas: Float[np.ndarray, " s"]) -> Solver:
    """Second order; the first and the last step are of first order.

    Args:
      sigmas: Falling noise levels, the last one 0. A level of 1 is lowered by 1e-6, where the
        half logarithm of the signal-to-noise ratio is finite.
    """
    levels = np.minimum(np.asarray(sigmas, np.float64), 1 - 1e-6)
    steps = len(levels) - 1
    rows = np.zeros((steps, 8))
    rows[:, 0] = levels[:-1]
    rows[:, 1] = 1.0  # no correction: the sample is kept, see _unipc_step
    orders = [1 if index in (0, steps - 1) else 2 for index in range(steps)]
    for index in range(steps):
        if index > 0:
            rows[index, 1:5] = _corrector(levels, index, orders[index - 1])
        rows[index, 5:] = _predictor(levels, index, orders[index])
    return Solver(rows.astype(np.float32), lambda x: State(x, x, x, x), _unipc_step)


def _unipc_step(state: State, velocity: jax.Array, row: jax.Array) -> State:
    assert state.previous is not None and state.clean is not None and state.older is not None
    clean = state.sample - row[0] * velocity
    # At the first step `previous` is the sample itself and its coefficient is 1.
    corrected = row[1] * state.previous + row[2] * state.older
    corrected = corrected + row[3] * state.clean + row[4] * clean
    sample = row[5] * corrected + row[6] * state.clean + row[7] * clean
    return State(jnp.asarray(sample), corrected, clean, state.clean)


def _log_ratio(sigma: float) -> float:
    return np.inf if sigma == 0 else float(np.log((1 - sigma) / sigma))


def _predictor(levels: np.ndarray, index: int, order: int) -> tuple[float, float, float]:
    """Coefficients of sample, last clean and present clean prediction, from `index` onwards."""
    now, following = levels[index], levels[index + 1]
    step = _log_ratio(following) - _log_ratio(now)
    phi = np.expm1(-step)
    on_sample, on_clean, on_last = following / now, -(1 - following) * phi, 0.0
    if order == 2:
        ratio = (_log_ratio(levels[index - 1]) - _log_ratio(now)) / step
        on_last = -(1 - following) * phi * 0.5 / ratio
        on_clean -= on_last
    return on_sample, on_last, on_clean


def _corrector(levels: np.ndarray, index: int, order: int) -> tuple[float, float, float, float]:
    """Coefficients of the previous sample and of three clean predictions, oldest first."""
    before, now = levels[index - 1], levels[index]
    step = _log_ratio(now) - _log_ratio(before)
    phi = np.expm1(-step)
    weights, ratio = np.array([0.5]), 1.0
    if order == 2:
        ratio = (_log_ratio(levels[index - 2]) - _log_ratio(before)) / step
        second = phi / -step - 1
        third = second / -step - 0.5
        weights = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], np.array([second, 2 * third]) / phi)
    scale = -(1 - now) * phi
    on_now = scale * weights[-1]
    on_older = scale * weights[0] / ratio if order == 2 else 0.0
    return now / before, on_older, scale - on_now - on_older, on_now
