"""Solvers: exact on straight paths, second order on curved ones, diffusers' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import UniPCMultistepScheduler

from ft_jax.diffusion import flow, solvers


def _solve(solver, velocity, start):
    def step(state, row):
        return solver.step(state, velocity(state.sample, row[0]), row), None

    return np.asarray(jax.lax.scan(step, solver.start(jnp.asarray(start)), solver.rows)[0].sample)


def test_a_straight_path_is_solved_exactly():
    clean, noise = np.random.default_rng(0).standard_normal((2, 3, 5)).astype(np.float32)
    for make in (solvers.euler, solvers.unipc):
        found = _solve(
            make(flow.sigma_table(7)), lambda x, sigma: jnp.asarray(noise - clean), noise
        )
        np.testing.assert_allclose(found, clean, atol=1e-5)


def test_unipc_gains_on_a_curved_path():
    velocity = lambda x, sigma: jnp.tanh(x) * (1 + sigma**2)  # noqa: E731
    start = np.linspace(-2, 2, 11).astype(np.float32)
    exact = _solve(solvers.euler(flow.sigma_table(4000)), velocity, start)
    table = flow.sigma_table(20, start=0.999)
    errors = [
        np.abs(_solve(make(table), velocity, start) - exact).max()
        for make in (solvers.euler, solvers.unipc)
    ]
    assert errors[1] < errors[0] / 5


def test_unipc_equals_diffusers_at_the_same_levels():
    table = flow.sigma_table(8, start=0.999)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2
    )
    scheduler.set_timesteps(8)
    scheduler.sigmas = torch.tensor(table)
    velocity = lambda x, sigma: jnp.sin(3 * x) + sigma * x  # noqa: E731
    start = np.random.default_rng(1).standard_normal((2, 6)).astype(np.float32)
    theirs = torch.tensor(start)
    for timestep, sigma in zip(scheduler.timesteps, table[:-1], strict=True):
        output = torch.tensor(np.asarray(velocity(theirs.numpy(), sigma), np.float32))
        theirs = scheduler.step(output, timestep, theirs).prev_sample
    ours = _solve(solvers.unipc(table), velocity, start)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
