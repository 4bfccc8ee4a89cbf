"""What devices send to each other: kind, mesh axes, bytes, whether arithmetic hides it.

Read from the compiled program (hlo.py). A collective that is split into start and done overlaps
with what stands between; every other one stops the device. One that the compiler spreads over
several fusions stands in the text once per fusion: those with one channel are one.

Time on the wire: rings along the dimensions of the torus that a group extends over, both directions
at once where the dimension is whole; for the formulas see the scaling book (roofline, sharding).

Tests: tests/multidevice/collectives_test.py, on programs compiled for eight simulated devices.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from ft_jax.plan import hlo
from ft_jax.plan.chips import Chip

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_CHANNEL = re.compile(r"channel_id=(\d+)")
_LISTED = re.compile(r"replica_groups=\{(\{[\d,{}]*\})\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_NAMED = re.compile(
    r"replica_groups=mesh\[([^\]]*)\]"
    r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}"
)
_PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{}]*\})\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One kind of exchange, as often as it runs in a step.

    Attributes:
      kind: One of `KINDS`.
      axes: Mesh axes that its groups extend over, joined by "+".
      size: Bytes on each device of the larger of what goes in and comes out, per run.
      devices: Of one group.
      runs: In a step.
      overlaps: Whether arithmetic runs meanwhile.
      source: Operation of the program that it belongs to.
    """

    kind: str
    axes: str
    size: float
    devices: int
    runs: int
    overlaps: bool
    source: str


def find(program: hlo.Program, mesh: dict[str, int]) -> list[Collective]:
    """All collectives; `mesh` gives the sizes of its axes, in order."""
    runs, seen, result = program.runs(), dict[tuple[str, str], int](), list[Collective]()
    split = _halves(program)
    for name, times in runs.items():
        shapes = {item.name: item.shapes for item in program.computations.get(name, ())}
        for item in program.computations.get(name, ()):
            kind = item.opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            channel = _CHANNEL.search(item.attributes)
            overlaps = item.opcode.endswith("-start") or name in split.asynchronous
            if name in split.fused and channel:
                if (known := seen.get((kind, channel[1]))) is not None:
                    # Its first fusion only starts it: what hides it comes later.
                    hidden = result[known].overlaps or overlaps
                    result[known] = dataclasses.replace(result[known], overlaps=hidden)
                    continue
                seen[kind, channel[1]] = len(result)
            given = sum((s.bytes for name in item.operands for s in shapes.get(name, ())), 0.0)
            taken = sum((shape.bytes for shape in item.shapes), 0.0)
            if item.opcode.endswith("-start"):  # its result holds what went in as well
                taken -= given
            if name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"
            groups = _groups(item.attributes, math.prod(mesh.values()))
            if max(map(len, groups)) < 2:
                continue
            found = re.search(r'op_name="([^"]*)"', item.attributes)
            result.append(
                Collective(
                    kind,
                    "+".join(_axes(groups, mesh)),
                    max(given, taken),
                    max(map(len, groups)),
                    times,
                    overlaps,
                    found[1] if found else "",
                )
            )
    return result


def seconds(found: Collective, chip: Chip) -> float:
    """Time on the wire of all runs in a step, on one torus dimension."""
    count, size, wire = found.devices, found.size, 2 * chip.link
    if found.kind == "collective-permute":
        return found.runs * size / chip.link
    if found.kind == "all-to-all":
        return found.runs * size * count / 4 / wire
    rounds = 2 if found.kind == "all-reduce" else 1
    return found.runs * rounds * size * (count - 1) / count / wire


@dataclasses.dataclass(frozen=True)
class _Halves:
    """Computations that run while others do (`asynchronous`), and those inside of fusions."""

    asynchronous: frozenset[str]
    fused: frozenset[str]


def _halves(program: hlo.Program) -> _Halves:
    asynchronous, fused = set[str](), set[str]()
    for items in program.computations.values():
        for item in items:
            if item.opcode == "async-start":
                asynchronous.update(item.calls)
            if item.opcode == "fusion":
                fused.update(item.calls)
                if "async_collective" in item.name or "async_collective" in item.attributes:
                    asynchronous.update(item.calls)
    return _Halves(frozenset(asynchronous), frozenset(fused))


def _groups(attributes: str, devices: int) -> list[list[int]]:
    """The devices that exchange, by their places in the mesh."""
    for pattern in (_LISTED, _PAIRS):
        if found := pattern.search(attributes):
            rows = re.findall(r"\{([\d,]+)\}", found[1])
            groups = [[int(place) for place in row.split(",")] for row in rows]
            if pattern is _PAIRS:
                groups = [pair for pair in groups if pair[0] != pair[1]] or [[0]]
            return groups
    if found := _IOTA.search(attributes):
        shape, dims = (_numbers(found[place]) for place in (1, 2))
        places = np.arange(math.prod(dims)).reshape(dims)
        if found[3]:
            places = places.transpose(_numbers(found[3]))
        return places.reshape(shape).tolist()
    if found := _NAMED.search(attributes):
        sizes = {key: int(size) for key, size in re.findall(r"'(\w+)'=(\d+)", found[1])}
        places = np.arange(devices)
        if found[2]:
            places = places.reshape(_numbers(found[2]))
        if found[3]:
            places = places.transpose(_numbers(found[3]))
        axes = [list(sizes).index(key) for key in re.findall(r"'(\w+)'", found[4])]
        rest = [axis for axis in range(len(sizes)) if axis not in axes]
        width = math.prod(list(sizes.values())[axis] for axis in axes)
        places = places.reshape(tuple(sizes.values())).transpose(*rest, *axes)
        return places.reshape(-1, width).tolist()
    return [list(range(devices))]


def _axes(groups: Sequence[Sequence[int]], mesh: dict[str, int]) -> list[str]:
    """Names of the mesh axes along which members of a group differ."""
    differ = collections.Counter[str]()
    for group in groups:
        places = np.stack(np.unravel_index(np.array(group), tuple(mesh.values())))
        for axis, row in zip(mesh, places, strict=True):
            differ[axis] += len(set(row.tolist())) > 1
    return [axis for axis in mesh if differ[axis]]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))
