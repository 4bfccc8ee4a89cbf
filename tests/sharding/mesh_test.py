"""Mesh sizes: -1 takes what is left, anything that does not fit is refused."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from ft_jax.errors import UsageError
from ft_jax.sharding import mesh


def test_minus_one_takes_the_devices_that_are_left():
    made = mesh.make(mesh.Config())
    assert made.shape["data"] == jax.device_count()
    assert set(made.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [{"fsdp": 3}, {"data": 1, "tensor": 7}, {"context": -1}])
def test_sizes_that_are_not_the_devices_are_refused(sizes):
    with pytest.raises(UsageError, match="mesh"):
        mesh.make(mesh.Config(**sizes))


@dataclasses.dataclass(frozen=True)
class Chip:
    """What `mesh_utils` looks at."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


@dataclasses.dataclass(frozen=True)
class Placed(Chip):
    """One of a torus."""

    coords: tuple[int, ...] = ()
    core_on_chip: int = 0
    device_kind: str = "TPU v6 lite"
    platform: str = "tpu"


def test_axes_that_are_no_products_of_the_torus_share_a_dimension_of_it():
    chips = [
        Placed(8 * row + column, 0, coords=(row, column, 0)) for row, column in np.ndindex(8, 8)
    ]
    made = mesh.make(mesh.Config(data=1, fsdp=16, context=4), chips)
    assert len(set(made.devices.flat)) == 64 and made.devices.shape == (1, 16, 4, 1)
    for group in made.devices[0, :, :, 0]:  # whoever exchanges most lies in one row or column
        assert 1 in {len({chip.coords[place] for chip in group}) for place in (0, 1)}


@pytest.mark.parametrize(
    ("sizes", "slices", "crosses"),
    [
        ({"data": 2, "context": 4}, 2, {"data"}),
        ({"data": 4, "fsdp": 2}, 2, {"data"}),
        ({"data": 1, "fsdp": 8}, 2, {"fsdp"}),
        ({"data": 2, "fsdp": 2, "tensor": 2}, 4, {"data", "fsdp"}),
    ],
)
def test_slices_are_joined_by_data_then_fsdp(sizes, slices, crosses):
    chips = [Chip(number, number % slices) for number in range(8)]
    made = mesh.make(mesh.Config(**sizes), chips)
    assert made.devices.size == len(set(made.devices.flat)) == 8
    assert dict(made.shape) == {"data": 1, "fsdp": 1, "context": 1, "tensor": 1} | sizes
    assert set(made.axis_types) == {AxisType.Auto}
    number = np.vectorize(lambda chip: chip.slice_index)(made.devices)
    for place, axis in enumerate(mesh.AXES):
        changes = (np.diff(number, axis=place) != 0).any()
        assert changes == (axis in crosses), axis


def test_neighbours_on_an_axis_that_crosses_slices_share_one_where_they_can():
    chips = [Chip(number, number % 2) for number in range(8)]
    made = mesh.make(mesh.Config(data=4, fsdp=2), chips)
    assert [chip.slice_index for chip in made.devices[:, 0, 0, 0]] == [0, 0, 1, 1]


@pytest.mark.parametrize("sizes", [{"data": 1, "context": 6}, {"data": 3, "tensor": 2}])
def test_slices_that_would_cut_a_sample_are_refused(sizes):
    chips = [Chip(number, number % 2) for number in range(6)]
    with pytest.raises(UsageError, match="over 2 slices; expected sizes that the slices divide"):
        mesh.make(mesh.Config(**sizes), chips)
