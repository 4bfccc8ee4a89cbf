"""Logical names onto arrays; a name nobody knows is an error, not a silent replication.

Tests: tests/sharding/constrain_test.py, tests/multidevice.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
from flax.core import meta
from flax.linen.spmd import RulesFallback
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ft_jax.errors import UsageError
from ft_jax.sharding.axes import AXES
from ft_jax.sharding.rules import STATES, STORAGE, TABLES


@contextlib.contextmanager
def partitioned(mesh: Mesh, rules: str) -> Iterator[None]:
    """Inside, `constrain` resolves names by the table `rules` on `mesh`."""
    if rules not in TABLES:
        raise UsageError(f"mesh.rules: got {rules!r}; expected one of {sorted(TABLES)}")
    with jax.set_mesh(mesh), nn.logical_axis_rules(TABLES[rules]):
        yield


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Pins `x` to the mesh axes of its logical `names`; outside of `partitioned` it is `x`.

    Raises:
      ValueError: A name is not in `ft_jax/sharding/axes.py`.
    """
    if unknown := {name for name in names if name is not None} - AXES:
        raise ValueError(f"unknown logical axes {sorted(unknown)}; see ft_jax/sharding/axes.py")
    if not nn.get_logical_axis_rules():
        return x
    return nn.with_logical_constraint(x, names, fallback=RulesFallback.RAISE_ERROR)


def gathered(parameter: jax.Array, *names: str) -> jax.Array:
    """A parameter as a layer reads it: whole along the axes over which it is only stored.

    Left to itself, the compiler moves activations instead where there are few of them, such as
    those of a text. The gradient goes back in slices.

    Raises:
      ValueError: A name is not in `ft_jax/sharding/axes.py`.
    """
    if not any(STORAGE & set(split_over(name)) for name in names):
        return parameter
    stored = nn.logical_to_mesh_axes(names) or PartitionSpec()
    whole = (None if STORAGE.intersection(_several(axes)) else axes for axes in stored)
    return _gathered(parameter, stored, PartitionSpec(*whole))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(parameter: jax.Array, stored: PartitionSpec, whole: PartitionSpec) -> jax.Array:
    return jax.lax.with_sharding_constraint(parameter, whole)


_gathered.defvjp(
    lambda parameter, stored, whole: (_gathered(parameter, stored, whole), None),
    lambda stored, whole, _, gradient: (jax.lax.with_sharding_constraint(gradient, stored),),
)


def split_over(name: str) -> dict[str, int]:
    """The mesh axes of more than one device that a logical axis goes to, with their sizes.

    Outside of `partitioned` there are none.

    Raises:
      ValueError: The name is not in `ft_jax/sharding/axes.py`.
    """
    if name not in AXES:
        raise ValueError(f"unknown logical axis {name!r}; see ft_jax/sharding/axes.py")
    if not (rules := dict(nn.get_logical_axis_rules())):
        return {}
    sizes = jax.sharding.get_abstract_mesh().shape
    return {axis: sizes[axis] for axis in _several(rules[name]) if sizes[axis] > 1}


def _several(axes: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else axes or ()


def shardings(abstract: Any, mesh: Mesh, rules: str, is_read: bool = True) -> Any:
    """NamedShardings of a tree of (boxed) abstract arrays; leaves without names are replicated.

    Derive the whole train state's from one `jax.eval_shape` of its initialisation: the optimizer's
    moments keep the boxes of their parameters, where `jax.jit(optimizer.init)` would replicate.

    Args:
      abstract: The tree.
      mesh: Where it goes.
      rules: Name of the tables.
      is_read: Whether a forward pass reads it. What none reads is spread as far as its sizes let
        it; of the rest, each axis must divide.

    Raises:
      ValueError: A parameter carries a name that is not in `ft_jax/sharding/axes.py`.
    """
    specs = nn.get_partition_spec(abstract)
    is_spec = lambda spec: isinstance(spec, PartitionSpec)  # noqa: E731
    names = {name for spec in jax.tree.leaves(specs, is_leaf=is_spec) for name in spec}
    if unknown := names - AXES - {None}:
        raise ValueError(f"unknown logical axes {sorted(unknown)}; see ft_jax/sharding/axes.py")
    if is_read:
        return nn.logical_to_mesh_sharding(specs, mesh, list(TABLES[rules]))
    where = nn.logical_to_mesh_sharding(specs, mesh, list(STATES[rules]))
    return jax.tree.map(
        lambda leaf, sharding: _fitted(leaf.shape, sharding), meta.unbox(abstract), where
    )


def _fitted(shape: tuple[int, ...], sharding: NamedSharding) -> NamedSharding:
    """The sharding without the axes that do not divide."""
    sizes, kept = sharding.mesh.shape, []
    for length, axes in zip(shape, sharding.spec, strict=False):
        kept.append(None if length % math.prod(sizes[axis] for axis in _several(axes)) else axes)
    return NamedSharding(sharding.mesh, PartitionSpec(*kept))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())
