"""One device equals eight: the autoencoder split by the rows of its pictures, and by samples.

Its weights are whole on every device, as `vae.init` gives them.
"""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ft_jax.models import vae
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned, replicated

CFG = vae.Config(
    width=8, blocks=1, channels=3, multipliers=(1, 2, 2), time=(True, True),
    mean=(0.1, -0.2, 0.3), std=(2.0, 1.0, 0.5),
)  # fmt: skip
SPLITS = {
    "rows": meshes.Config(data=1, context=8),
    "rows and samples": meshes.Config(data=2, context=4),
}
# 12 latent rows do not divide by 8, which the devices must not notice.
INPUTS = {"encode": (2, 9, 48, 16, 3), "decode": (2, 3, 12, 4, 3)}


@functools.cache
def params() -> Any:
    return jax.jit(vae.init, static_argnums=1)(jax.random.key(0), CFG)


def given(method: str) -> jax.Array:
    return jax.random.uniform(jax.random.key(1), INPUTS[method], minval=-1.0)


@pytest.mark.parametrize(("split", "chunk"), [("rows", 0), ("rows and samples", 1)])
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_the_autoencoder_is_the_same_on_eight_devices(method: str, split: str, chunk: int):
    cfg = SPLITS[split]
    mesh = meshes.make(cfg)
    placed = jax.device_put(params(), replicated(mesh))
    x = jax.device_put(given(method), NamedSharding(mesh, PartitionSpec("data")))
    pieces = vae.Pieces(chunk)

    def function(params: Any, x: jax.Array) -> jax.Array:
        return getattr(vae, method)(params, CFG, x, pieces)

    alone = jax.jit(function).lower(params(), given(method)).compile()
    with partitioned(mesh, cfg.rules):
        program = jax.jit(function).lower(placed, x).compile()
    found = program(placed, x)
    assert len(found.sharding.device_set) == 8
    # Rows that do not divide are filled up; else every device has its eighth of the work.
    assert 8 * work(program) <= 1.25 * work(alone)
    assert "collective-permute" in str(program.as_text())  # the edges of neighbouring rows
    np.testing.assert_allclose(found, alone(params(), given(method)), atol=1e-5)


def work(program: Any) -> float:
    """Floating-point operations of one device."""
    return program.cost_analysis()["flops"]
