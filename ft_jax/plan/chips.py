"""TPU chips and their limits, as one device of JAX sees them: one table.

Numbers are nameplate values of docs.cloud.google.com/tpu/docs (pages v5e, v5p, v6e, tpu7x); rates
of a single link are from the scaling book (jax-ml.github.io/scaling-book/tpus), for tpu7x and v6e
the page's rate of a chip divided by its links. A tpu7x chip is two devices, so its row has the half
of a chip's arithmetic, memory and links.

Tests: tests/plan/topology_test.py.
"""

import dataclasses
from collections.abc import Mapping

from ft_jax.training.compiler import V5E, V5P, V6E, V7X
from ft_jax.training.flops import PEAKS

GB, GIB = 1e9, 2.0**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device.

    Attributes:
      kind: `device_kind` in JAX.
      peak: Dense bf16 FLOP/s.
      memory: Bytes of HBM.
      bandwidth: Bytes/s of HBM.
      link: Bytes/s of one link between chips, one way.
      mxu: Width of the matrix unit; narrower contractions run at width / mxu of the peak.
      dimensions: Of the torus.
      devices: Of one chip.
    """

    kind: str
    peak: float
    memory: float
    bandwidth: float
    link: float
    mxu: int
    dimensions: int
    devices: int = 1


CHIPS: Mapping[str, Chip] = {
    "v5e": Chip(V5E, PEAKS[V5E], 16 * GB, 819 * GB, 45 * GB, 128, 2),
    "v5p": Chip(V5P, PEAKS[V5P], 95 * GIB, 2765 * GB, 90 * GB, 128, 3),
    "v6e": Chip(V6E, PEAKS[V6E], 32 * GB, 1640 * GB, 90 * GB, 256, 2),
    "tpu7x": Chip(V7X, PEAKS[V7X], 96 * GIB, 3690 * GB, 50 * GB, 256, 3, devices=2),
}
