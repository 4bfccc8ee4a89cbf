"""The device mesh: four named axes over whatever devices there are.

  data      samples; gradients are summed over it
  fsdp      samples and the split of the weights
  context   spatial positions of one sample
  tensor    heads and hidden widths

Slices (TPU pods, or the NVLink domains of a GPU cluster) are joined by a slower network. It is put
into the data axis, and what does not fit there into fsdp; context and tensor, which exchange within
a layer, stay inside a slice.

An axis whose size is no product of dimensions of the torus shares one of them with another axis.

Axes are `AxisType.Auto` (the compiler places collectives); `jax.make_mesh` would default to
Explicit, under which Linen's boxed parameters cannot be initialised.

Tests: tests/sharding/mesh_test.py.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from ft_jax.errors import UsageError

AXES = ("data", "fsdp", "context", "tensor")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the mesh axes; at most one may be -1 and takes the devices that are left."""

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    rules: str = "fsdp"  # a table of ft_jax/sharding/rules.py


def make(cfg: Config, devices: Sequence[Any] | None = None) -> Mesh:
    """Builds the mesh of `cfg` over `devices` (default: all).

    Raises:
      UsageError: The axis sizes do not multiply to the number of devices, or cannot be laid over
        their slices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = [getattr(cfg, axis) for axis in AXES]
    if sizes.count(-1) > 1:
        raise UsageError(f"mesh: {sizes.count(-1)} axes are -1; expected at most one")
    known = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if math.prod(sizes) != len(devices):
        text = " x ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise UsageError(f"mesh: {text} is not {len(devices)} devices; expected their product")
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    between = over_slices(sizes, slices)
    inside = [size // ways for size, ways in zip(sizes, between, strict=True)]

    def laid(**options: bool) -> np.ndarray:
        if slices == 1:
            return mesh_utils.create_device_mesh(sizes, devices, **options)
        return mesh_utils.create_hybrid_device_mesh(inside, between, devices, **options)

    try:
        where = laid()
    except NotImplementedError:  # an axis that is no product of dimensions of the torus: 16 on 8x8
        where = laid(allow_split_physical_axes=True)
    return Mesh(where, AXES, (AxisType.Auto,) * len(AXES))


def over_slices(sizes: Sequence[int], slices: int) -> tuple[int, int, int, int]:
    """How many ways each axis is split between slices; the rest of it lies inside of them.

    Raises:
      UsageError: Data and fsdp together do not go over the slices.
    """
    data = math.gcd(sizes[0], slices)
    fsdp = slices // data
    if sizes[1] % fsdp:
        raise UsageError(
            f"mesh: data {sizes[0]} x fsdp {sizes[1]} over {slices} slices; expected sizes that "
            f"the slices divide, data before fsdp"
        )
    return data, fsdp, 1, 1
