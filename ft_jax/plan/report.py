"""A compiled training step as numbers: fits, moves, computes, at best takes so long.

Everything is per device and per step unless it says otherwise. What is written as JSON is what is
printed.

Tests: tests/cli/plan_test.py.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ft_jax.plan import bounds, collectives, flops, hlo, traffic
from ft_jax.plan.chips import Chip
from ft_jax.plan.program import Step

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Counted:
    """Operations of a step over all devices.

    Attributes:
      useful: Of these, those that it cannot do without.
      executed: Of the step.
      least: Of the same step with nothing recomputed.
    """

    useful: float
    executed: flops.Flops
    least: flops.Flops


def report(
    made: Step, counted: Counted, lowered: Any, compiled: Any, chip: Chip | None, steps: int
) -> dict[str, Any]:
    """All that is known of a step; without a chip's limits there are no bounds.

    Args:
      made: The step.
      counted: Its operations.
      lowered: What XLA was given.
      compiled: What it made of it.
      chip: The kind of device, if its limits are known.
      steps: Of the whole run.
    """
    devices, mesh = made.mesh.size, dict(made.mesh.shape)
    samples = next(iter(made.arguments[2].values())).shape[0]
    parsed = hlo.parse(compiled.as_text())
    exchanged = collectives.find(parsed, mesh)
    useful = counted.useful / devices
    moved = traffic.moved(parsed)
    result: dict[str, Any] = {
        "program": key(lowered.as_text(), made.options),
        "devices": devices,
        "mesh": mesh,
        "rules": made.rules,
        "samples": samples,
        "memory": _memory(compiled.memory_analysis()),
        "flops": {
            "useful": useful,
            "executed": counted.executed.total / devices,
            "compiled": _products(parsed),
            "recomputation": counted.executed.total / counted.least.total,
        },
        "kernels": _kernels(parsed),
        "hbm_bytes": moved,
        "collectives": _table(exchanged, chip),
    }
    if chip is not None:
        exposed = sum(
            (collectives.seconds(one, chip) for one in exchanged if not one.overlaps), 0.0
        )
        each = counted.executed * (1 / devices)
        bound = bounds.bound(chip, each, useful, moved, exposed)
        result["memory"]["share"] = result["memory"]["peak"] / chip.memory
        result["bounds"] = {
            **dataclasses.asdict(bound),
            "step": bound.step,
            "binding": bound.binding,
            "samples_per_hour": samples / bound.step * 3600,
            "days": bound.step * steps / 86400,
        }
    return result


def lines(found: Mapping[str, Any]) -> str:
    """The same for people."""
    memory, work = found["memory"], found["flops"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items() if size > 1)
    share = f" ({memory['share']:.0%} of the device)" if "share" in memory else ""
    rows = [
        f"mesh         {mesh or 'one device'}; rules {found['rules']}; "
        f"{found['samples']} samples a step",
        f"memory       arguments {memory['arguments'] / GIB:.2f} GiB, temporaries "
        f"{memory['temporaries'] / GIB:.2f}, peak {memory['peak'] / GIB:.2f}{share}",
        f"products     useful {work['useful'] / 1e12:.4g} TFLOP, executed "
        f"{work['executed'] / 1e12:.4g}, recomputation x {work['recomputation']:.3f}; in the "
        f"compiled program {work['compiled'] / 1e12:.4g}",
        f"HBM          {found['hbm_bytes'] / GIB:.2f} GiB moved",
    ]
    for row in found["kernels"]:
        rows.append(
            f"attention    {row['kernel']}, {row['queries']} queries, {row['keys']} keys: "
            f"{row['runs']} runs"
        )
    for row in found["collectives"]:
        seconds = f", {row['seconds'] * 1e3:.2f} ms" if "seconds" in row else ""
        hidden = "hidden" if row["overlaps"] else "exposed"
        rows.append(
            f"exchange     {row['kind']} over {row['axes']}: {row['runs']} runs, "
            f"{row['bytes'] / GIB:.3f} GiB, {hidden}{seconds}"
        )
    if bound := found.get("bounds"):
        rows += [
            f"step         at least {bound['step']:.3f} s: arithmetic {bound['arithmetic']:.3f}, "
            f"HBM {bound['memory']:.3f}, exposed exchanges {bound['exposed']:.3f}; "
            f"bound by {bound['binding']}",
            f"at best      utilisation {bound['useful']:.1%}, "
            f"{bound['samples_per_hour']:.0f} samples an hour, {bound['days']:.1f} days",
        ]
    return "\n".join(rows)


def row(found: Mapping[str, Any]) -> str:
    """One line on a candidate of a search."""
    one = found["candidate"]
    axes = " x ".join(f"{name} {one[name]}" for name in ("data", "fsdp", "context"))
    told = f"{one['rules']}, {axes}, {one['samples']} samples, remat {one['remat']}: "
    if not found["fits"]:
        return told + "does not fit"
    bound = found["bounds"]
    return told + (
        f"{found['memory']['share']:.0%} of the memory, {bound['step']:.3f} s, utilisation "
        f"{bound['useful']:.1%}, {bound['samples_per_hour']:.0f} samples an hour"
    )


def key(text: str, options: Mapping[str, Any]) -> str:
    """Names a lowered program and its options: equal for equal ones, wherever they were made."""
    told = f"{text}\n{json.dumps(options, sort_keys=True)}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _memory(analysis: Any) -> dict[str, float]:
    return {
        "arguments": float(analysis.argument_size_in_bytes),
        "temporaries": float(analysis.temp_size_in_bytes),
        "peak": float(analysis.peak_memory_in_bytes),
    }


def _products(program: hlo.Program) -> float:
    """Operations on one device, counted in the compiled program."""
    total = sum(times * flops.kernel(name, shapes).total for name, shapes, times in _calls(program))
    for name, times in program.runs().items():
        items = program.computations.get(name, ())
        shapes = {item.name: item.shapes for item in items}
        total += times * sum(hlo.products(item, shapes) for item in items)
    return total


def _calls(program: hlo.Program) -> Iterator[tuple[str, list[tuple[int, ...]], int]]:
    """Attention kernels: name, shapes of what they are given, how often they run."""
    for name, times in program.runs().items():
        items = program.computations.get(name, ())
        shapes = {item.name: item.shapes for item in items}
        for item in items:
            if item.opcode == "custom-call" and item.name.startswith(tuple(flops.KERNELS)):
                yield item.name, [shapes[each][0].dims for each in item.operands], times


def _kernels(program: hlo.Program) -> list[dict[str, Any]]:
    """One row per kernel and lengths, as filled up to whole tiles; runs of one step."""
    runs: dict[tuple[str, int, int], int] = collections.Counter()
    for name, shapes, times in _calls(program):
        kernel = next(key for key in flops.KERNELS if name.startswith(key))
        runs[kernel, shapes[0][-2], shapes[1][-2]] += times
    return [
        {"kernel": kernel, "queries": queries, "keys": keys, "runs": times}
        for (kernel, queries, keys), times in sorted(runs.items(), reverse=True)
    ]


def _table(found: Sequence[collectives.Collective], chip: Chip | None) -> list[dict[str, Any]]:
    """One row per kind, axes and whether it overlaps, largest first."""
    rows: dict[tuple[str, str, bool], dict[str, Any]] = {}
    for one in found:
        row = rows.setdefault(
            (one.kind, one.axes, one.overlaps),
            {"kind": one.kind, "axes": one.axes, "overlaps": one.overlaps, "runs": 0, "bytes": 0.0},
        )
        row["runs"] += one.runs
        row["bytes"] += one.runs * one.size
        if chip is not None:
            row["seconds"] = row.get("seconds", 0.0) + collectives.seconds(one, chip)
    return sorted(rows.values(), key=lambda row: -row["bytes"])
