"""The text of a compiled program, read into instructions, with how often each of them runs.

XLA's text is the one form in which every backend shows what it has made of a program: collectives,
fusions, layouts. Loops on TPUs carry no count, so it is taken from the constant that their
condition compares with.

Tests: tests/plan/hlo_test.py, on programs compiled for eight simulated devices.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

BYTES = {"pred": 1, "bf16": 2, "f16": 2, "s4": 0.5, "u4": 0.5}
_ARRAY = re.compile(r"(?P<type>\w+)\[(?P<shape>[\d,]*)\](\{(?P<layout>[^}]*)\})?")
_HEAD = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_LINE = re.compile(r"\s+(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = ")
_CALLS = re.compile(r"(?:calls|body|to_apply|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{|(?:true|false)_computation=)([^},]*(?:,[^}]*)?)")
_WINDOW = re.compile(r"(\w+)=([\dx_\-]+)")


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array."""

    type: str
    dims: tuple[int, ...]
    layout: str

    @property
    def bytes(self) -> float:
        """Of its elements, without padding."""
        bits = re.sub(r"\D", "", self.type[1:3] if self.type.startswith("f8") else self.type)
        each = BYTES.get(self.type) or (int(bits) / 8 if bits else 0.0)
        return each * float(math.prod(self.dims))

    @property
    def in_hbm(self) -> bool:
        """Whether it lies in the large memory: TPUs mark what is in the small one."""
        return "S(" not in self.layout


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One operation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result; several of a tuple
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def calls(self) -> tuple[str, ...]:
        """Computations that it runs."""
        return tuple(_CALLS.findall(self.attributes))


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str

    def runs(self) -> Mapping[str, int]:
        """How often each computation runs, and through it each of its instructions."""
        runs: dict[str, int] = collections.defaultdict(int)

        def visit(name: str, times: int) -> None:
            runs[name] += times
            for item in self.computations.get(name, ()):
                if item.opcode == "while":
                    body, condition = _called(item, "body"), _called(item, "condition")
                    visit(body, times * self.trips(item, condition))
                else:
                    for called in (*item.calls, *_branches(item)):
                        visit(called, times)

        visit(self.entry, 1)
        return runs

    def trips(self, loop: Instruction, condition: str) -> int:
        """How often the body of `loop` runs."""
        known = re.search(r'known_trip_count":\{"n":"(\d+)"', loop.attributes)
        if known:
            return int(known[1])
        constants = list(self._constants(condition))
        return max(constants) if constants else 1

    def _constants(self, name: str) -> Iterator[int]:
        for item in self.computations.get(name, ()):
            if item.opcode == "constant" and item.shapes[0].type == "s32" and item.operands:
                if item.operands[0].lstrip("-").isdigit():
                    yield int(item.operands[0])
            for called in item.calls:
                yield from self._constants(called)


def parse(text: str) -> Program:
    """Reads what `compiled.as_text()` gives.

    Raises:
      ValueError: There is no entry computation in it.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", list[Instruction]()
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = computations.setdefault(head["name"], [])
            entry = head["name"] if head["entry"] else entry
        elif found := _LINE.match(line):
            current.append(_instruction(line[found.end() :], found["name"], bool(found["root"])))
    if not entry:
        raise ValueError("no ENTRY in the text of the compiled program")
    return Program(computations, entry)


def arrays(text: str) -> tuple[Shape, ...]:
    """Every array type in a text."""
    return tuple(
        Shape(
            found["type"],
            tuple(int(size) for size in found["shape"].split(",") if size),
            found["layout"] or "",
        )
        for found in _ARRAY.finditer(text)
    )


def products(item: Instruction, shapes: Mapping[str, tuple[Shape, ...]]) -> float:
    """Floating-point operations of a `dot` or a `convolution`; else 0."""
    if item.opcode not in ("dot", "convolution"):
        return 0.0
    out = item.shapes[0].dims
    left, right = (shapes[name][0].dims for name in item.operands[:2])
    if item.opcode == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", item.attributes)
        axes = [int(axis) for axis in found[1].split(",") if axis] if found else []
        return 2.0 * math.prod(out) * math.prod(left[axis] for axis in axes)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", item.attributes)
    if labels is None:
        return 0.0
    result = 2.0 * out[labels[3].index("b")] * out[labels[3].index("f")]
    result *= right[labels[2].index("i")]
    window = _window(item.attributes)
    for axis in (letter for letter in labels[3] if letter.isdigit()):
        sizes = [
            dims[names.index(axis)]
            for dims, names in ((left, labels[1]), (right, labels[2]), (out, labels[3]))
        ]
        result *= _pairs(sizes, {key: values[int(axis)] for key, values in window.items()})
    return result


def _pairs(sizes: Sequence[int], window: Mapping[str, str]) -> int:
    """Output places times window places that meet an input, along one axis.

    The compiler writes a batch of products as a convolution whose windows mostly lie outside.
    """
    size, width, places = sizes
    low = int(window.get("pad", "0_0").split("_")[0])
    stride, spread = int(window.get("stride", 1)), int(window.get("lhs_dilate", 1))
    step = int(window.get("rhs_dilate", 1))
    position = np.arange(places)[:, None] * stride + np.arange(width) * step - low
    inside = (position >= 0) & (position <= (size - 1) * spread) & (position % spread == 0)
    return int(inside.sum())


def _window(attributes: str) -> dict[str, list[str]]:
    found = re.search(r"window=\{([^}]*)\}", attributes)
    return {key: value.split("x") for key, value in _WINDOW.findall(found[1])} if found else {}


def _instruction(text: str, name: str, is_root: bool) -> Instruction:
    end = _closing(text) + 1 if text.startswith("(") else text.index(" ")
    rest = text[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    last = _closing(rest[len(opcode) :]) + len(opcode)
    inside = rest[len(opcode) + 1 : last]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside)) or tuple(
        part.strip() for part in inside.split(",") if part.strip()
    )
    return Instruction(name, opcode, arrays(text[:end]), operands, rest[last + 1 :], is_root)


def _closing(text: str) -> int:
    """Place of the bracket that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter == ")":
            return place
    return len(text)


def _called(item: Instruction, key: str) -> str:
    found = re.search(rf"{key}=%?([\w.\-]+)", item.attributes)
    return found[1] if found else ""


def _branches(item: Instruction) -> list[str]:
    if item.opcode != "conditional":
        return []
    found = _BRANCHES.findall(item.attributes)
    return [name.strip().lstrip("%") for part in found for name in part.split(",") if name.strip()]
