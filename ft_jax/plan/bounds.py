"""How fast a step can be at best, and what binds it.

  step >= max(arithmetic, memory) + exchanges that nothing hides

Arithmetic counts contractions over at most 128 entries at half rate where the matrix unit is 256
wide. The bound of the utilisation is useful / (peak x that time): recomputed operations cost time
and are no use.

Tests: tests/plan/bounds_test.py.
"""

import dataclasses

from ft_jax.plan.chips import Chip
from ft_jax.plan.flops import LANES, Flops


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Seconds of a step on every device.

    Attributes:
      arithmetic: Of all executed products.
      memory: Of all bytes through HBM.
      exposed: Of collectives that do not overlap.
      useful: Share of the peak that useful operations can have at best.
    """

    arithmetic: float
    memory: float
    exposed: float
    useful: float

    @property
    def step(self) -> float:
        """The least time of a step."""
        return max(self.arithmetic, self.memory) + self.exposed

    @property
    def binding(self) -> str:
        """The largest of its terms."""
        terms = {name: getattr(self, name) for name in ("arithmetic", "memory", "exposed")}
        return max(terms, key=lambda name: terms[name])


def bound(chip: Chip, executed: Flops, useful: float, moved: float, exposed: float) -> Bounds:
    """Bounds on one device.

    Args:
      chip: The device.
      executed: Operations on it in a step.
      useful: Of these, those that a step needs.
      moved: Bytes through its HBM.
      exposed: Seconds of collectives that nothing hides.
    """
    share = min(1.0, LANES / chip.mxu)
    arithmetic = (executed.total - executed.narrow + executed.narrow / share) / chip.peak
    memory = moved / chip.bandwidth
    step = max(arithmetic, memory) + exposed
    return Bounds(arithmetic, memory, exposed, useful / (chip.peak * step))
