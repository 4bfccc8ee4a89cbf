"""One device equals eight: the autoencoder split by the rows of its pictures, and by samples.

Its weights are whole on every device, as `vae.init` gives them.
"""

import functools
import re
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


@functools.cache
def on_one_device(method: str) -> Any:
    function = jax.jit(getattr(vae, method), static_argnums=(1, 3))
    return function(params(), CFG, given(method), vae.WHOLE)


def given(method: str) -> jax.Array:
    return jax.random.uniform(jax.random.key(1), INPUTS[method], minval=-1.0)


@pytest.mark.parametrize(("split", "chunk"), [("rows", 0), ("rows and samples", 1)])
@pytest.mark.parametrize("method", ["encode", "decode"])
def test_the_autoencoder_is_the_same_on_eight_devices(method: str, split: str, chunk: int):
    cfg = SPLITS[split]
    mesh = meshes.make(cfg)
    placed = jax.device_put(params(), replicated(mesh))
    x = jax.device_put(given(method), NamedSharding(mesh, PartitionSpec("data")))
    function = jax.jit(getattr(vae, method), static_argnums=(1, 3))
    with partitioned(mesh, cfg.rules):
        program = function.lower(placed, CFG, x, vae.Pieces(chunk)).compile()
    found = program(placed, x)
    text = str(program.as_text())
    assert "collective-permute" in text  # the edges of neighbouring rows
    # No device holds the activations of all rows at the resolution of the picture.
    rows, columns = INPUTS["encode"][2:4]
    assert not re.search(rf",{rows},{columns},{CFG.width}]", text)
    np.testing.assert_allclose(found, on_one_device(method), atol=1e-5)
