"""The denoising loop against a plain one, and how rows of a batch do (not) see each other."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.diffusion import flow
from ft_jax.diffusion.guidance import Config as Guidance
from ft_jax.errors import UsageError
from ft_jax.models import fantasy
from ft_jax.models.audio import frame_windows
from ft_jax.models.system import System
from ft_jax.sampling import sampler

FRAMES, AUDIO = 9, 19


@pytest.fixture(scope="session")
def denoiser(system: System) -> fantasy.Config:
    return system.denoiser


@pytest.fixture(scope="session")
def denoiser_params(params: dict[str, Any]) -> Any:
    return params["denoiser"]


@pytest.fixture(scope="session")
def request_of(denoiser: fantasy.Config) -> Any:
    """Makes a request of so many rows."""

    def make(rows: int) -> sampler.Request:
        draw = np.random.default_rng(0)

        def normal(*shape: int) -> jax.Array:
            return jnp.asarray(draw.standard_normal((rows, *shape)), jnp.float32)

        conditions = fantasy.Conditions(
            condition_latents=normal(3, 4, 4, 16),
            image_tokens=normal(5, 16),
            text_tokens=normal(16, 16),
            audio_features=normal(AUDIO, 16),
            identity=normal(16),
            expression=jnp.full(rows, 0.5),
            body=jnp.full(rows, 0.7),
        )
        return sampler.Request(
            noise=np.asarray(normal(3, 4, 4, 16)),
            conditions=conditions,
            negative_text=normal(16, 16),
            windows=frame_windows(AUDIO, FRAMES),
        )

    return make


APPLY = jax.jit(fantasy.apply, static_argnums=1)


def plain_loop(
    params: Any, model: fantasy.Config, cfg: sampler.Config, request: sampler.Request
) -> jax.Array:
    """Every branch on its own, every step in Python, nothing prepared."""
    rows = request.noise.shape[0]
    given = dataclasses.replace(request.conditions, audio_scale=jnp.ones(rows))
    silent = dataclasses.replace(given, audio_scale=jnp.zeros(rows))
    negative = dataclasses.replace(silent, text_tokens=request.negative_text)
    levels = flow.sigma_table(cfg.steps, cfg.shift)
    x = jnp.asarray(request.noise)
    for sigma, following in itertools.pairwise(levels):
        at = jnp.full(rows, sigma)
        full, text, none = (
            APPLY(params, model, x, at, each, request.windows) for each in (given, silent, negative)
        )
        strength = cfg.guidance
        velocity = none + strength.text * (text - none) + strength.audio * (full - text)
        x = x + (following - sigma) * velocity
    return x


@pytest.mark.parametrize("guidance", [(5.0, 4.5), (1.0, 4.5), (1.0, 1.0)])
def test_the_loop_equals_a_plain_one(
    denoiser: fantasy.Config, denoiser_params: Any, request_of: Any, guidance: tuple[float, float]
) -> None:
    cfg = sampler.Config(Guidance(*guidance), steps=3)
    request = request_of(3)
    got = sampler.sample(denoiser_params, denoiser, cfg, request)
    wanted = plain_loop(denoiser_params, denoiser, cfg, request)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(jnp.abs(wanted).max()))


def test_neither_parts_nor_steps_per_call_change_the_result(
    denoiser: fantasy.Config, denoiser_params: Any, request_of: Any
) -> None:
    request = request_of(3)
    whole = sampler.Config(Guidance(5.0, 4.5), steps=3)
    parts = dataclasses.replace(whole, rows_at_once=2)
    wanted = sampler.sample(denoiser_params, denoiser, whole, request)
    seen: list[tuple[int, int]] = []
    got = sampler.sample(
        denoiser_params, denoiser, parts, request, lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * float(jnp.abs(wanted).max()))


def test_copies_of_a_frame_never_part_and_others_keep_their_own(
    denoiser: fantasy.Config, denoiser_params: Any, request_of: Any
) -> None:
    cfg = sampler.Config(Guidance(1.0, 1.0), steps=3, rows_at_once=2)
    ids = np.array([[0, 1, 2], [5, 2, 3], [6, 3, 4]])
    request = request_of(3)
    values = np.random.default_rng(1).standard_normal((7, 4, 4, 16)).astype(np.float32)
    overlap = sampler.Overlap(ids, np.ones(ids.shape))
    request = dataclasses.replace(request, noise=values[ids], overlap=overlap)
    got = sampler.sample(denoiser_params, denoiser, cfg, request)
    np.testing.assert_array_equal(got[0, 2], got[1, 1])
    np.testing.assert_array_equal(got[1, 2], got[2, 1])
    assert float(jnp.abs(got[1, 0] - got[2, 0]).max()) > 1e-3
    # A copy that weighs nothing has no say.
    alone = dataclasses.replace(request, overlap=None)
    weights = np.ones(ids.shape)
    weights[1, 1] = 0.0
    weighed = dataclasses.replace(request, overlap=sampler.Overlap(ids, weights))
    first = sampler.sample(denoiser_params, denoiser, cfg, alone)[0]
    np.testing.assert_allclose(
        sampler.sample(denoiser_params, denoiser, cfg, weighed)[0], first, rtol=1e-4, atol=1e-4
    )


def test_both_solvers_run_and_agree_where_the_steps_are_fine(
    denoiser: fantasy.Config, denoiser_params: Any, request_of: Any
) -> None:
    request, made = request_of(1), {}
    for solver in ("euler", "unipc"):
        cfg = sampler.Config(Guidance(1.0, 1.0), solver, steps=60)
        made[solver] = np.asarray(sampler.sample(denoiser_params, denoiser, cfg, request))
    assert made["euler"].std() > 0.1
    error = np.abs(made["euler"] - made["unipc"]).mean()
    assert error < 0.1 * made["euler"].std()


@pytest.mark.parametrize(
    "setting", [{"solver": "magic"}, {"steps": 0}, {"shift": 0.5}, {"rows_at_once": 0}]
)
def test_settings_that_cannot_be_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        sampler.Config(**setting)
