"""Are these weights what they claim to be? Looked at without running anything.

    shapes(system, parts)       every path and shape against the networks' own, by `jax.eval_shape`
    statistics(parts)           no NaN, and every tensor within what its kind can be

A tensor's strength is its root mean square; a kernel's is multiplied by the square root of its
inputs, so that 1 keeps the variance of what passes through, whatever the width. Stacked blocks are
looked at one by one. The ranges find tensors of another unit, another place or another number
format, not a model that is merely bad. None of the released weights were at hand when they were
set; they lie well around

    kernels     0.14 .. 3.3 in the trained models that ship; 1 .. 26 in google/t5-v1_1-small by the
                deviations published in huggingface/transformers pull request 26441 (0.05 of q to
                1.17 of wi_1), which at the width of the released text encoder would be 75
    norms       0.37 .. 1.8 in those that ship; published large models reach single values of 300
    tables      0.02 .. 1 in those that ship; 12 in that T5

and are guesses beyond. So a strength outside of its range is a warning only, and a fault where it
is outside by a factor of FAR too.

Tensors that were only carried through from a published file are not looked at.

Kernels and values of a branch that are all zero are no fault: such a branch adds nothing, the model
is plain Wan as far as that branch goes.

Tests: tests/eval/soundness_test.py.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ft_jax.checkpoints.tree import flatten
from ft_jax.eval.findings import Check
from ft_jax.models import system as systems
from ft_jax.models.system import System
from ft_jax.typing import Params

OPTIONAL = ("landmarks", "sync")  # they measure; nothing that generates needs them
FAR = 5.0
RANGES = {
    "kernel": (0.02, 100.0),
    "down": (0.02, 100.0),  # of a low-rank change
    "up": (0.0, 100.0),
    "scale": (0.02, 100.0),  # of a norm
    "bias": (0.0, 50.0),
    "table": (1e-4, 100.0),  # learned vectors
    "slope": (0.0, 10.0),
    "mean": (0.0, 1e4),  # statistics of a batch norm
    "var": (1e-8, 1e6),
}
"""Kind of a tensor, by the last word of its path -> least and greatest strength."""

_STACKED = re.compile(r"(^|/)(blocks|layers)/|^denoiser/(audio|identity)/(key|value)/")
_SILENT = re.compile(r"denoiser/((audio|identity)/(key|value)|motion/output)/\w+")


def shapes(system: System, parts: Mapping[str, Params]) -> list[Check]:
    """One check a part: all of its tensors, none besides, each of the right shape."""
    made = [name for name in systems.PARTS if getattr(system, name) is not None]
    expected, checks = {name: systems.abstract(system, name) for name in made}, []
    for name in sorted({*expected, *parts} - {systems.REST}):
        title = f"{name}: paths and shapes"
        if name not in parts and name in OPTIONAL:
            checks.append(Check(title, "note", "not there; only measurements need it"))
            continue
        wanted = flatten(expected.get(name, {}))
        found = flatten(parts.get(name, {}))
        faults = [f"missing: {name}/{path}" for path in wanted if path not in found]
        faults += [f"unexpected: {name}/{path}" for path in found if path not in wanted]
        faults += [
            f"shape: {name}/{path} {list(found[path].shape)} instead of {list(leaf.shape)}"
            for path, leaf in wanted.items()
            if path in found and tuple(found[path].shape) != tuple(leaf.shape)
        ]
        checks.append(_check(title, faults, f"all {len(wanted)} tensors"))
    return checks


def statistics(parts: Mapping[str, Params]) -> list[Check]:
    """One check a part and kind of tensor, and one for each branch that is zero."""
    groups: dict[tuple[str, str], list[tuple[float, str]]] = {}
    faults: dict[tuple[str, str], list[str]] = {}
    doubts: dict[tuple[str, str], list[str]] = {}
    zero = []
    read = {name: part for name, part in parts.items() if name != systems.REST}
    for path, leaf in flatten(read).items():
        part, kind = path.split("/")[0], path.rsplit("/", 1)[-1]
        values = np.asarray(leaf).astype(np.float32)
        own = faults.setdefault((part, kind), [])
        if bad := int(np.size(values) - np.isfinite(values).sum()):
            own.append(f"{path}: {bad} of {values.size} values are not finite")
            continue
        if not values.any() and _SILENT.fullmatch(path):
            zero.append(path)
            continue
        least, most = RANGES.get(kind, (0.0, np.inf))
        for place, value in strengths(path, values).items():
            groups.setdefault((part, kind), []).append((value, place))
            if not least <= value <= most:
                is_far = not least / FAR <= value <= most * FAR
                listed = own if is_far else doubts.setdefault((part, kind), [])
                listed.append(f"{place}: strength {value:.3g}; expected {least:g} to {most:g}")
    checks = []
    for (part, kind), own in sorted(faults.items()):
        seen = sorted(groups.get((part, kind), []))
        said = f"strength {seen[0][0]:.3g} to {seen[-1][0]:.3g}" if seen else "zero"
        unusual = doubts.get((part, kind), [])
        checks.append(_check(f"{part}: {kind}", own, said, unusual))
    for branch in ("audio", "identity", "motion"):
        own = [path for path in zero if path.startswith(f"denoiser/{branch}/")]
        if own:
            finding = "zero: plain Wan; this branch adds nothing"
            checks.append(Check(f"{branch} branch", "note", finding, tuple(own)))
    return checks


def strengths(path: str, values: np.ndarray) -> dict[str, float]:
    """{place: strength}: one a tensor, or one a block where blocks are stacked."""
    kind = path.rsplit("/", 1)[-1]
    blocks = values if _STACKED.search(path) else values[None]
    inputs = np.prod(blocks.shape[1:-1]) if kind in ("kernel", "down", "up") else 1.0
    root = np.sqrt(np.square(blocks, dtype=np.float64).mean(tuple(range(1, blocks.ndim))) * inputs)
    if len(root) == 1:
        return {path: float(root[0])}
    return {f"{path} block {number}": float(value) for number, value in enumerate(root)}


def _check(title: str, faults: list[str], otherwise: str, doubts: Sequence[str] = ()) -> Check:
    named = [*faults, *doubts]
    if not named:
        return Check(title, "sound", otherwise)
    more = f", and {len(named) - 1} more" if len(named) > 1 else ""
    return Check(title, "fault" if faults else "warning", named[0] + more, tuple(named))


def count(parts: Mapping[str, Any]) -> int:
    """Parameters of all parts."""
    return sum(int(np.prod(leaf.shape)) for leaf in flatten(dict(parts)).values())
