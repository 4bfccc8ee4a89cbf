"""Mesh sizes: -1 takes what is left, anything that does not fit is refused."""

import jax
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
