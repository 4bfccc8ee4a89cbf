"""TrainState: what a step changes, and nothing else.

Frozen parameters stand beside it, never in it: they are an argument of the step, are not donated,
carry no optimizer state and are in no checkpoint of the run (ft_jax/checkpoints/manager.py).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ft_jax.typing import Params


@struct.dataclass
class TrainState:
    """Step (int32 scalar), trained parameters, optimizer state, moving average (or None)."""

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    ema: Params | None


def create(params: Params, optimizer: optax.GradientTransformation, ema: float) -> TrainState:
    """The state before step 0; the moving average starts at the parameters."""
    average = jax.tree.map(jnp.array, params) if ema > 0 else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def averaged(state: TrainState) -> Any:
    """The weights to judge and hand over: the moving average where one is kept."""
    return state.params if state.ema is None else state.ema
