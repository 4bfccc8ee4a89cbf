"""A global batch over the processes of a run: which rows each one reads, and onto the devices.

A batch is cut into data x fsdp shares of consecutive rows. The devices of a process hold some of
the shares: an equal part of them each, or, where a sample is split over several processes (context,
tensor), the same ones as others do. So a process is told by its mesh what to read, not by counting
processes.

Tests: tests/multidevice/batch_test.py; several processes: tests/processes/train_test.py.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ft_jax.errors import UsageError

SAMPLES = PartitionSpec(("data", "fsdp"))
"""How the first axis of a batch lies on a mesh."""


def rows(mesh: Mesh, samples: int) -> tuple[int, ...]:
    """The rows of a global batch of `samples` that this process's devices hold, ascending.

    Raises:
      UsageError: The shares do not divide the samples.
    """
    ways = _ways(mesh)
    if samples < 1 or samples % ways:
        raise UsageError(f"data.batch_size: {samples}; expected a multiple of {ways} (mesh)")
    size = samples // ways
    return tuple(share * size + row for share in shares(mesh) for row in range(size))


def place(local: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """`rows` of a global batch, as this process has read them -> the global batch on the devices.

    Raises:
      UsageError: This process's shares do not divide its rows.
    """
    held, sharding = shares(mesh), NamedSharding(mesh, SAMPLES)

    def placed(values: np.ndarray) -> jax.Array:
        size, left = divmod(len(values), len(held))
        if left:
            raise UsageError(
                f"data.batch_size: {len(values)}; expected a multiple of {len(held)} (mesh)"
            )

        def part(index: Any) -> np.ndarray:
            first = held.index((index[0].start or 0) // size) * size
            return values[first : first + size]

        shape = (size * _ways(mesh), *values.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return {name: placed(np.asarray(values)) for name, values in local.items()}


def shares(mesh: Mesh) -> tuple[int, ...]:
    """Numbers of the shares, of data x fsdp in all, that this process's devices hold."""
    held: Any = NamedSharding(mesh, SAMPLES).addressable_devices_indices_map((_ways(mesh),))
    return tuple(sorted({index[0].start or 0 for index in held.values()}))


def _ways(mesh: Mesh) -> int:
    return mesh.shape["data"] * mesh.shape["fsdp"]
