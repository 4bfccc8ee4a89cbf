"""Every logical axis has a decision in every table, and none is made for an unknown one."""

import pytest

from ft_jax.sharding import mesh
from ft_jax.sharding.axes import AXES
from ft_jax.sharding.rules import TABLES


@pytest.mark.parametrize("table", TABLES)
def test_tables_decide_each_axis_once(table):
    names = [name for name, _ in TABLES[table]]
    assert sorted(names) == sorted(AXES)


@pytest.mark.parametrize("table", TABLES)
def test_tables_name_only_mesh_axes(table):
    for _, axes in TABLES[table]:
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            assert axis in mesh.AXES
