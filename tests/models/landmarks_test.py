"""The measuring instrument: units, and that it can learn a position."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ft_jax.models import landmarks

CFG = landmarks.Config(
    pixels=16, widths=(8, 8), hidden=16, measures=("lip_opening", "brow"),
    mean=(0.1, 0.0, 0.2, 0.2, 0.8, 0.8), std=(0.05, 0.01, 0.1, 0.1, 0.1, 0.1),
)  # fmt: skip


def test_measures_come_back_in_the_units_they_were_given_in():
    params = jax.jit(landmarks.init, static_argnums=1)(jax.random.key(0), CFG)
    frames = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3), minval=-1.0)
    found = jax.jit(landmarks.measure, static_argnums=1)(params, CFG, frames)
    assert found.values.shape == (3, 2) and found.box.shape == (3, 4)
    raw = jax.jit(landmarks.outputs, static_argnums=1)(params, CFG, frames)
    np.testing.assert_allclose(
        landmarks.standardise(CFG, found.values, found.box), raw[:, :-1], atol=1e-4
    )
    np.testing.assert_allclose(found.visible, jax.nn.sigmoid(raw[:, -1]), atol=1e-6)


def test_a_position_can_be_learned():
    place = np.random.default_rng(0).integers(2, 14, size=(32, 2))
    frames = np.full((32, 16, 16, 3), -1.0, np.float32)
    for frame, (row, column) in zip(frames, place, strict=True):
        frame[row - 1 : row + 1, column - 1 : column + 1] = 1.0
    target = jnp.asarray((place - 8) / 4, jnp.float32)
    optimizer = optax.adam(1e-2)

    def loss(params):
        error = landmarks.outputs(params, CFG, jnp.asarray(frames))[:, :2] - target
        return jnp.square(error).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params = jax.jit(landmarks.init, static_argnums=1)(jax.random.key(0), CFG)
    state, losses = optimizer.init(params), []
    for _ in range(60):
        params, state, value = step(params, state)
        losses.append(value)
    assert losses[-1] < 0.1 * losses[0]
