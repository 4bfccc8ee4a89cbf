"""Names of pods, such as v6e:8x8, and the environment in which a CPU can compile for them.

Tests: tests/plan/topology_test.py.
"""

import dataclasses
import importlib.util
import math
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_jax.errors import UsageError
from ft_jax.plan.chips import CHIPS, Chip

LOCAL = "local"
APART = Path(sys.prefix) / "tpu"
"""Where `make test` puts the compiler, so that nothing else of this environment looks for a TPU."""
_NAME = re.compile(r"(?P<chip>\w+):(?P<shape>[1-9]\d*(x[1-9]\d*)*)")


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind in a torus of `shape`."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def devices(self) -> int:
        """How many devices JAX sees."""
        return math.prod(self.shape) * self.chip.devices


def parse(name: str) -> Topology:
    """v6e:8x8, v5p:4x4x4, ...

    Raises:
      UsageError: There is no such chip, or its torus has another number of dimensions.
    """
    found = _NAME.fullmatch(name)
    if not found or found["chip"] not in CHIPS:
        raise UsageError(
            f"--topology: got {name!r}; expected {LOCAL!r}, or one of {sorted(CHIPS)} "
            f"with its size, such as v6e:8x8"
        )
    chip = CHIPS[found["chip"]]
    shape = tuple(int(size) for size in found["shape"].split("x"))
    if len(shape) != chip.dimensions:
        raise UsageError(
            f"--topology: {name} has {len(shape)} dimensions; expected {chip.dimensions}, such as "
            f"{found['chip']}:{'x'.join(['4'] * chip.dimensions)}"
        )
    return Topology(name, chip, shape)


def environment(topology: Topology, path: str = "") -> Mapping[str, str]:
    """What a process needs, before it imports JAX, to compile for `topology` without a TPU.

    Args:
      topology: The pod.
      path: Its PYTHONPATH so far.
    """
    chip = topology.name.partition(":")[0]
    paths = [each for each in path.split(os.pathsep) if each]
    if APART.is_dir() and str(APART) not in paths:
        paths.append(str(APART))
    return {
        "PYTHONPATH": os.pathsep.join(paths),
        "JAX_PLATFORMS": "cpu",
        # A program is named by its text, which then says nothing of files and lines.
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": f"{chip}-{math.prod(topology.shape)}",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # else two compilations at once wait for a lock file
        "TPU_STDERR_LOG_LEVEL": "3",
        "TPU_MIN_LOG_LEVEL": "3",
    }


def need_compiler() -> None:
    """Raises a UsageError unless the compiler for TPUs is installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError(
            "libtpu: not installed; expected it for any topology but 'local' "
            "(pip install 'ft_jax[plan]')"
        )


def devices(topology: Topology) -> list[Any]:
    """Devices that programs can be compiled for, but not run on.

    Raises:
      UsageError: There is no pod of this shape.
    """
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(topology.name, "tpu").devices)
    except Exception as error:  # the TPU client has no type of its own for this
        reason = str(error).splitlines()[0]
        raise UsageError(f"--topology: {topology.name}: no such pod ({reason})") from error
