"""A global batch on eight devices: every sample where its mesh wants it, none twice."""

import jax
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.sharding import batch
from ft_jax.sharding import mesh as meshes

MESHES = {
    "samples": (meshes.Config(), 8),
    "samples and positions": (meshes.Config(data=2, fsdp=2, context=2), 4),
    "positions": (meshes.Config(data=1, context=8), 1),
}


@pytest.mark.parametrize("name", MESHES)
def test_one_process_reads_and_places_every_row_once(name: str):
    cfg, ways = MESHES[name]
    mesh = meshes.make(cfg)
    assert batch.shares(mesh) == tuple(range(ways))
    assert batch.rows(mesh, 16) == tuple(range(16))
    local = {"x": np.arange(48.0).reshape(16, 3), "n": np.arange(16)}
    for key, placed in batch.place(local, mesh).items():
        np.testing.assert_array_equal(np.asarray(placed), local[key])
        assert placed.addressable_shards[0].data.shape[0] == 16 // ways


def test_a_process_reads_and_places_only_what_its_devices_hold(monkeypatch: pytest.MonkeyPatch):
    mesh = meshes.make(meshes.Config(data=4, context=2))
    monkeypatch.setattr(batch, "shares", lambda mesh: (1, 3))
    assert batch.rows(mesh, 8) == (2, 3, 6, 7)
    asked: dict[str, object] = {}

    def make(shape, sharding, part):
        asked["shape"] = shape
        asked["parts"] = [part((slice(first, first + 2),)).tolist() for first in (2, 6)]
        return jax.numpy.zeros(shape)

    monkeypatch.setattr(jax, "make_array_from_callback", make)
    batch.place({"x": np.array([2, 3, 6, 7])}, mesh)
    assert asked == {"shape": (8,), "parts": [[2, 3], [6, 7]]}


@pytest.mark.parametrize("samples", [0, 12])
def test_a_batch_that_does_not_divide_is_refused(samples: int):
    with pytest.raises(UsageError, match=f"data.batch_size: {samples}; expected a multiple of 8"):
        batch.rows(meshes.make(meshes.Config()), samples)
