import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.checkpoints.tree import split
from ft_jax.training import optim, randomness, step
from ft_jax.training.state import averaged, create
from tests.training.toy import WIDTH, Toy, settings


def setup(ema: float = 0.9, accumulate: int = 1):
    stage = Toy()
    trained, frozen = split(stage.init(jax.random.key(0)), lambda path: "audio" in path)
    optimizer = optim.make(settings().optim, 8, {"denoiser/audio/bias": 1.0})
    state = create(trained, optimizer, ema)
    update = functools.partial(
        step.train_step, stage=stage, optimizer=optimizer, seed=0, accumulate=accumulate, ema=ema
    )
    batch = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(4, WIDTH)), jnp.float32)}
    return stage, state, frozen, batch, update


def test_the_state_holds_only_what_is_trained():
    _, state, frozen, _, _ = setup()
    shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
    assert shapes == {(), (WIDTH,)}  # counters, and the bias with its moments and average
    assert jax.tree.leaves(frozen)[0].shape == (WIDTH, WIDTH)


def test_the_average_warms_up():
    _, state, frozen, batch, update = setup()
    state = state.replace(ema=jax.tree.map(lambda x: x + 1.0, state.ema))
    first, _ = update(state, frozen, batch)
    bias = lambda tree: np.asarray(tree["denoiser"]["audio"]["bias"])  # noqa: E731
    wanted = 0.1 * bias(state.ema) + 0.9 * bias(first.params)  # (1 + 0) / (10 + 0)
    np.testing.assert_allclose(bias(averaged(first)), wanted, rtol=1e-5)
    late = first.replace(step=jnp.asarray(100_000, jnp.int32))
    second, _ = update(late, frozen, batch)
    wanted = 0.9 * bias(first.ema) + 0.1 * bias(second.params)
    np.testing.assert_allclose(bias(averaged(second)), wanted, rtol=1e-5)


def test_without_an_average_the_parameters_are_judged():
    _, state, _, _, _ = setup(ema=0.0)
    assert state.ema is None and averaged(state) is state.params


def test_micro_batches_average_their_gradients():
    stage, state, frozen, batch, _ = setup()
    key = randomness.step_key(0, 0)
    found, metrics = step.gradients(state.params, frozen, batch, key, stage, 2)
    parts = []
    for index in range(2):
        part = {"x": batch["x"][2 * index : 2 * index + 2]}
        own = jax.random.fold_in(randomness.draw(key, "microbatch"), index)
        parts.append(step.gradients(state.params, frozen, part, own, stage, 1))
    wanted = jax.tree.map(lambda a, b: (a + b) / 2, *parts)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), (found, metrics), wanted)


def test_a_step_is_a_pure_function_of_state_and_batch():
    _, state, frozen, batch, update = setup()
    one, other = update(state, frozen, batch), update(state, frozen, batch)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    later = update(state.replace(step=jnp.asarray(1, jnp.int32)), frozen, batch)
    assert float(later[1]["loss"]) != float(one[1]["loss"])


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_what_is_not_finite_changes_nothing_but_the_step(wrong):
    class Edge(Toy):
        def loss(self, trained, frozen, batch, key, train):
            bias = trained["denoiser"]["audio"]["bias"]
            if wrong == "loss":
                return jnp.log(jnp.sum(bias * 0.0) - 1.0), {}
            return jnp.sqrt(jnp.sum(jnp.square(bias))), {}  # 0 with a slope that is no number

    _, state, frozen, batch, update = setup()
    after, metrics = update(state, frozen, batch, stage=Edge())
    assert np.isfinite(metrics["loss"]) == (wrong == "gradient")
    assert int(after.step) == 1
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step), state)


def test_judging_gives_the_same_each_time():
    stage, state, frozen, batch, _ = setup()
    judge = functools.partial(step.eval_step, stage=stage)
    one = judge(state, frozen, batch, jnp.int32(0))
    assert float(one["loss"]) == float(judge(state, frozen, batch, jnp.int32(0))["loss"])
