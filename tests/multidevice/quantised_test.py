"""A base of eight bits on eight devices is that of one, in its bits and in what it teaches."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import pytest

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.nn import quantised
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned
from ft_jax.training import optim, origin, schedules
from tests.multidevice.denoiser_test import SPLITS, Feed, Flow, by_samples, parameters

GROUPS = ((".*/dit/.*", 0.0), (".*", 1.0))
ADAM = optim.Config(
    GROUPS, schedules.Config("constant", 1e-2, 0, 1e-2), 0.9, 0.999, 1e-8, 0.01, 1.0, 1, 0.99
)


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Of a whole network, as a file would give them."""
    made = jax.device_get(jax.jit(parameters)(jax.random.key(0)))
    return flatten({"denoiser": made})


def gradient(cfg: meshes.Config, leaves: dict[str, np.ndarray]) -> tuple[Any, Any, Any]:
    """Gradient of the trained parameters, the mesh of `cfg` and the base on it."""
    stage: Any = Flow()
    devices = jax.devices() if cfg != meshes.Config() else jax.devices()[:1]
    mesh = meshes.make(cfg, devices)
    planned = origin.plan(stage, ADAM, 2, mesh, cfg.rules)
    frozen = origin.placed_frozen(planned, leaves, "int8")
    forms = jax.tree.leaves(unflatten(origin.kept(planned, "int8")))
    for form, leaf in zip(forms, jax.tree.leaves(frozen), strict=True):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (form.shape, form.dtype, form.sharding)
    params = {
        path: jax.device_put(leaves[path], leaf.sharding)
        for path, leaf in flatten(planned.state.params).items()
    }
    batch = next(Feed().train(0))
    del batch["id"]

    def loss(params: Any, frozen: Any, batch: Any) -> Any:
        return stage.loss(params, frozen, batch, jax.random.key(5), True)[0]

    with partitioned(mesh, cfg.rules):
        found = jax.jit(jax.grad(loss))(unflatten(params), frozen, by_samples(batch, mesh))
    return found, mesh, frozen


def test_eight_bits_are_the_same_on_eight_devices(weights: dict[str, np.ndarray]):
    expected, _, base = gradient(meshes.Config(), weights)
    found, mesh, frozen = gradient(SPLITS["everything"], weights)
    assert mesh.size == 8
    made = flatten(frozen).values()
    (some, *_), count = eight_bits(made), len(eight_bits(made))
    assert count == 12 and not some.scale.sharding.is_fully_replicated
    jax.tree.map(np.testing.assert_array_equal, frozen, base)
    rows = zip(flatten(found).items(), flatten(expected).values(), strict=True)
    for (path, leaf), other in rows:
        atol = 2e-5 * max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(leaf, other, atol=atol, rtol=1e-4, err_msg=path)


def eight_bits(leaves: Iterable[Any]) -> list[Any]:
    return list(filter(quantised.is_quantised, leaves))
