"""Bytes that a compiled program moves through the large memory of a device.

Every instruction outside of fusions reads its operands and writes its results once; what lies in
the small on-chip memory costs nothing, and of an array that is only sliced the slice counts. Pallas
kernels may read an operand several times, so that the sum is a lower bound.

Tests: tests/plan/hlo_test.py.
"""

from collections.abc import Mapping, Sequence

from ft_jax.plan.hlo import Instruction, Program, Shape

FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "opt-barrier", "iota",
}  # fmt: skip
SLICES = ("dynamic-slice", "gather", "slice")


def moved(program: Program) -> float:
    """Bytes read and written in one run of the program."""
    fused = {
        called
        for items in program.computations.values()
        for item in items
        if item.opcode not in ("while", "conditional", "call", "async-start")
        for called in item.calls
    }
    total = 0.0
    for name, times in program.runs().items():
        if name in fused:
            continue
        items = program.computations.get(name, ())
        shapes = {item.name: item.shapes for item in items}
        total += times * sum(_bytes(program, item, shapes) for item in items)
    return total


def _bytes(program: Program, item: Instruction, shapes: Mapping[str, tuple[Shape, ...]]) -> float:
    if item.opcode in FREE or item.opcode.endswith(("-done", "-update")):
        return 0.0
    written = _hbm(item.shapes)
    read = [_hbm(shapes.get(name, ())) for name in item.operands]
    if item.opcode in SLICES:
        return 2 * written if read and read[0] else written
    if item.opcode == "dynamic-update-slice":
        return 2 * read[1]
    if item.opcode == "fusion" and item.calls:
        inside = program.computations.get(item.calls[0], ())
        return _of_fusion(inside, read, written)
    return sum(read) + written


def _of_fusion(items: Sequence[Instruction], read: Sequence[float], written: float) -> float:
    shapes = {item.name: item.shapes for item in items}
    places = {
        item.name: int(item.operands[0])
        for item in items
        if item.opcode == "parameter" and item.operands and item.operands[0].isdigit()
    }
    users: dict[str, list[Instruction]] = {name: [] for name in places}
    for item in items:
        for name in item.operands:
            if name in users:
                users[name].append(item)
    total = 0.0
    for name, place in places.items():
        whole = read[place] if place < len(read) else 0.0
        uses = users[name]
        if uses and all(use.opcode in SLICES for use in uses):
            whole = min(whole, sum(_size(use.shapes) for use in uses))
        elif uses and all(use.opcode == "dynamic-update-slice" for use in uses):
            whole = 0.0  # written in place
        total += whole
    updates = [item for item in items if item.opcode == "dynamic-update-slice"]
    if updates and any(places.get(item.operands[0]) is not None for item in updates):
        written = min(written, sum(_size(shapes.get(item.operands[1], ())) for item in updates))
    return total + written


def _hbm(shapes: Sequence[Shape]) -> float:
    return sum((shape.bytes for shape in shapes if shape.in_hbm), 0.0)


def _size(shapes: Sequence[Shape]) -> float:
    return sum((shape.bytes for shape in shapes), 0.0)
