"""Frozen weights onto eight devices: each part is read by itself, the whole never."""

import jax
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ft_jax.lazy import Lazy
from ft_jax.sharding import mesh as meshes
from ft_jax.training import origin
from ft_jax.training.state import create

ARRAY = np.arange(64, dtype=np.float32).reshape(4, 16)


@pytest.mark.parametrize("dtype", ["", "bfloat16"])
def test_frozen_weights_are_read_slice_by_slice(dtype: str):
    read: list[tuple[slice, ...]] = []

    def whole() -> np.ndarray:
        raise AssertionError("read as a whole")

    def part(index: tuple[slice, ...]) -> np.ndarray:
        read.append(index)
        return ARRAY[index]

    mesh = meshes.make(meshes.Config(data=1, fsdp=4, tensor=2))
    where = NamedSharding(mesh, PartitionSpec("fsdp", "tensor"))
    abstract = jax.ShapeDtypeStruct(ARRAY.shape, ARRAY.dtype, sharding=where)
    planned = origin.Plan(
        optax.identity(), create({}, optax.identity(), 0.0), {"dit/kernel": abstract}, {}
    )
    leaf = Lazy(ARRAY.shape, ARRAY.dtype, whole, part)
    placed = origin.placed_frozen(planned, {"dit/kernel": leaf}, dtype)["dit"]["kernel"]
    np.testing.assert_array_equal(np.asarray(placed).astype(np.float32), ARRAY)
    assert placed.dtype.name == (dtype or "float32") and placed.sharding == where
    assert sorted(ARRAY[index].size for index in read) == [8] * 8
