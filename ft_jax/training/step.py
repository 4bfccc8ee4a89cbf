"""One update and one evaluation: pure functions of (state, frozen, batch).

Randomness comes from the seed and the step number alone. With `accumulate` > 1 the batch is cut
into that many micro-batches, whose gradients are averaged before one update. The moving average
warms up: decay = min(ema, (1 + step) / (10 + step)).

Where loss or gradient is not finite nothing changes but the step number, which data and randomness
hang on. The choice is made on the device, so nobody waits for it (patience.py counts such steps).

Tests: tests/training/step_test.py (frozen leaves, accumulation), loop_test.py (resume).
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from ft_jax.training import randomness
from ft_jax.training.state import TrainState, averaged
from ft_jax.typing import Params

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@runtime_checkable
class Loss(Protocol):
    """What a step needs of a stage."""

    def loss(
        self, trained: Params, frozen: Params, batch: Batch, key: Key[Array, ""], train: bool
    ) -> tuple[jax.Array, Metrics]:
        """The scalar that is minimised, and what to log."""
        ...


def train_step(
    state: TrainState,
    frozen: Params,
    batch: Batch,
    *,
    stage: Loss,
    optimizer: optax.GradientTransformation,
    seed: int,
    accumulate: int,
    ema: float,
) -> tuple[TrainState, Metrics]:
    """The next state and the metrics of this one."""
    key = randomness.step_key(seed, state.step)
    gradient, metrics = gradients(state.params, frozen, batch, key, stage, accumulate)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    average = state.ema
    if average is not None:
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(lambda a, p: decay * a + (1.0 - decay) * p, average, params)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    kept = (state.params, state.opt_state, state.ema)
    params, opt_state, average = jax.tree.map(
        lambda changed, before: jnp.where(finite, changed, before),
        (params, opt_state, average),
        kept,
    )
    metrics = {**metrics, "gradient_norm": norm}
    return TrainState(state.step + 1, params, opt_state, average), metrics


def gradients(
    params: Params,
    frozen: Params,
    batch: Batch,
    key: Key[Array, ""],
    stage: Loss,
    accumulate: int,
) -> tuple[Any, Metrics]:
    """Gradient of the mean loss with respect to `params`, and the mean metrics with `loss`."""

    def total(params: Params, part: Batch, key: Key[Array, ""]) -> tuple[jax.Array, Metrics]:
        value, metrics = stage.loss(params, frozen, part, key, True)
        return value, {**metrics, "loss": value}

    one = jax.grad(total, has_aux=True)
    if accumulate == 1:
        return one(params, batch, key)

    def body(carry: Any, index: jax.Array) -> tuple[Any, None]:
        part = jax.tree.map(lambda x: x[index], parts)
        key_of_part = jax.random.fold_in(randomness.draw(key, "microbatch"), index)
        found = one(params, part, key_of_part)
        return jax.tree.map(jnp.add, carry, found), None

    parts = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
    first = jax.tree.map(lambda x: x[0], parts)
    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, params, first, key)
    )
    sums, _ = jax.lax.scan(body, empty, jnp.arange(accumulate))
    return jax.tree.map(lambda x: x / accumulate, sums)


def eval_step(
    state: TrainState, frozen: Params, batch: Batch, index: jax.Array, *, stage: Loss
) -> Metrics:
    """Metrics of the averaged weights on held-out batch `index`; the same draws each time."""
    key = randomness.step_key(0, index)
    value, metrics = stage.loss(averaged(state), frozen, batch, key, False)
    return {**metrics, "loss": value}
