"""Options for XLA, per platform and purpose: one table, handed over as compiler options.

Measured on CPU cores with mini sizes: at level 1 the codec's step compiles in 19 s of CPU time
where the default takes 30, and runs as fast; at level 0 stage 1's step runs half as fast.
"""

from collections.abc import Mapping
from typing import Any

import jax

RUN_ONCE: Mapping[str, int] = {"xla_backend_optimization_level": 0}
"""For code that runs once: optimising the random numbers of a network takes a CPU a minute."""

STEP: Mapping[str, Mapping[str, int]] = {"cpu": {"xla_backend_optimization_level": 1}}
"""For steps that run thousands of times, by platform; one that is not named has no options."""


def step_options() -> dict[str, Any]:
    """Options for steps on the default platform."""
    return dict(STEP.get(jax.default_backend(), {}))
