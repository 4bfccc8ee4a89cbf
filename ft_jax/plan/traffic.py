"""Bytes that a compiled program moves through the large memory of a device.

Every instruction outside of fusions reads its operands and writes its results once; what lies in
the small on-chip memory costs nothing, and of an array that is only sliced the slice counts. An
exchange that runs on beside several fusions is handed from one to the next and touches memory once,
where it starts. Pallas kernels may read an operand several times, so that the sum is a lower bound.

Tests: tests/plan/hlo_test.py.
"""

import re
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
    if item.opcode == "slice-start":  # its result is what it reads from, and the slice
        return _size(item.shapes[1:2]) + _hbm(item.shapes[1:2])
    if item.opcode.endswith("-start"):  # its result holds what goes in as well
        return written
    if item.opcode in SLICES:
        return 2 * written if read and read[0] else written
    if item.opcode == "dynamic-update-slice":
        return 2 * read[1]
    if item.opcode == "fusion" and item.calls:
        return _of_fusion(program, item, read)
    return sum(read) + written


def _of_fusion(program: Program, item: Instruction, read: Sequence[float]) -> float:
    """Of one fusion; what it hands on of an exchange lies where it lay."""
    handed = _handed_on(item)
    inside = program.computations.get(item.calls[0], ())
    total = sum(
        _of_parameter(program, inside, place, size)
        for place, size in enumerate(read)
        if place not in handed.values()
    )
    written = sum(_hbm([shape]) for out, shape in enumerate(item.shapes) if out not in handed)
    shapes = {each.name: each.shapes for each in inside}
    updates = [each for each in inside if each.opcode == "dynamic-update-slice"]
    if any(each.operands[0] in _parameters(inside) for each in updates):  # written in place
        written = min(written, sum(_size(shapes.get(each.operands[1], ())) for each in updates))
    return total + written


def _of_parameter(
    program: Program, items: Sequence[Instruction], place: int, whole: float
) -> float:
    """Bytes that a fusion reads of its operand `place`, which has `whole`."""
    names = [name for name, index in _parameters(items).items() if index == place]
    total = 0.0
    for item in items:
        for operand, name in enumerate(item.operands):
            if name not in names:
                continue
            if item.opcode in SLICES:
                total += _size(item.shapes)
            elif item.opcode == "fusion" and item.calls:
                inner = program.computations.get(item.calls[0], ())
                total += _of_parameter(program, inner, operand, whole)
            elif item.opcode != "dynamic-update-slice" or operand:
                total += whole
    return min(whole, total)


def _parameters(items: Sequence[Instruction]) -> dict[str, int]:
    return {
        item.name: int(item.operands[0])
        for item in items
        if item.opcode == "parameter" and item.operands and item.operands[0].isdigit()
    }


def _handed_on(item: Instruction) -> dict[int, int]:
    """{result: operand} of what an exchange in progress is made of."""
    if "async_collective" not in item.attributes and not item.name.startswith("async-collective"):
        return {}
    found = re.search(r"output_to_operand_aliasing=\{(.*?)\)\}", item.attributes)
    pairs = re.findall(r"\{(\d*)\}: \((\d+)", found[1]) if found else []
    return {int(out or 0): int(operand) for out, operand in pairs}


def _hbm(shapes: Sequence[Shape]) -> float:
    return sum((shape.bytes for shape in shapes if shape.in_hbm), 0.0)


def _size(shapes: Sequence[Shape]) -> float:
    return sum((shape.bytes for shape in shapes), 0.0)
