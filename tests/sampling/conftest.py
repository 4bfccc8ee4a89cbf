"""A pipeline with random weights, and inputs for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ft_jax.models.system import System
from ft_jax.sampling.pipeline import Config, Pipeline
from ft_jax.sampling.sampler import Config as SamplerConfig
from tests.sampling import tiny_system


@pytest.fixture(scope="session")
def system() -> System:
    return tiny_system.system()


@pytest.fixture(scope="session")
def params(system: System) -> dict[str, Any]:
    return tiny_system.params(system)


@pytest.fixture(scope="session")
def pipeline(system: System, params: dict[str, Any]) -> Pipeline:
    # One step and parts of three rows: the fewest programs to compile.
    cfg = Config(sampler=SamplerConfig(steps=1, rows_at_once=3), overlap=2)
    return Pipeline(system, params, cfg)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    """Makes noise of so many seconds that differs by seed."""

    def make(seconds: float, seed: int = 0) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal(round(16_000 * seconds))
        return (0.1 * noise).astype(np.float32)

    return make
