"""Options for XLA, per kind of device and purpose: one table, handed over as compiler options.

Measured on CPU cores with mini sizes: at level 1 the codec's step compiles in 19 s of CPU time
where the default takes 30, and runs as fast; at level 0 stage 1's step runs half as fast.

The compiler for TPUs refuses options that a generation does not support when a step is compiled for
it; `python -m ft_jax.cli.plan` does that without a TPU.

Tests: tests/training/compiler_test.py.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

RUN_ONCE: Mapping[str, int] = {"xla_backend_optimization_level": 0}
"""For code that runs once: optimising the random numbers of a network takes a CPU a minute."""

V5E, V5P, V6E, V7X = "TPU v5 lite", "TPU v5", "TPU v6 lite", "TPU7x"
TPUS = (V5E, V5P, V6E, V7X)


@dataclasses.dataclass(frozen=True)
class Option:
    """One option, the kinds of devices (`device_kind`) that get it, and why.

    Where the compiler of a later JAX refuses it for a kind, `refused` says so: {kind: version}.
    """

    name: str
    value: int | bool | str
    kinds: tuple[str, ...]
    purpose: str
    refused: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


REFUSED = {V6E: (0, 11)}
"""Gathers inside of products: taken with JAX 0.10 (libtpu 0.0.42), no more with 0.12 (0.0.50)."""

STEP = (
    Option("xla_backend_optimization_level", 1, ("cpu",), "compiles in two thirds of the time"),
    Option("xla_tpu_overlap_compute_collective_tc", True, TPUS, "arithmetic hides exchanges"),
    Option(  # the links of v5e cannot
        "xla_tpu_enable_async_all_to_all",
        True,
        (V5P, V6E, V7X),
        "heads for tokens while others compute",
    ),
    Option("xla_enable_async_all_gather", True, TPUS, "weights come while the last block runs"),
    Option(
        "xla_tpu_enable_async_collective_fusion",
        True,
        (V5E, V6E),
        "gathers inside of products",
        REFUSED,
    ),
    Option(
        "xla_tpu_enable_async_collective_fusion_fuse_all_gather",
        True,
        (V5E, V6E),
        "the same; the compiler refuses it for v5p",
        REFUSED,
    ),
    Option(
        "xla_tpu_enable_async_collective_fusion_fuse_kloop_fusions",
        True,
        (V5E, V6E),
        "gathers beside elementwise work too: what waits falls from 5 % of the arithmetic to 2 %",
        REFUSED,
    ),
    Option(
        "xla_tpu_control_large_2nd_minor_layout_for_x16",
        False,
        (V7X,),
        "weights stay in the tiles they come in: else each step copies all of them, 31 GB at 14B",
    ),
)
"""For steps that run thousands of times."""


def step_options(device: Any = None) -> dict[str, Any]:
    """Options for steps on such a device (default: the first one)."""
    kind = (jax.devices()[0] if device is None else device).device_kind
    return {
        option.name: option.value
        for option in STEP
        if kind in option.kinds and not _is_refused(option, kind)
    }


def _is_refused(option: Option, kind: str) -> bool:
    return kind in option.refused and jax.__version_info__ >= option.refused[kind]
