"""Which mesh, which remat policy, how many samples: what to compile, and which of it is best.

Compiling takes minutes, so that a candidate is passed over if what it is given does not fit, or if
one that keeps no more for the gradient of no more samples did not fit on the same mesh.

Tests: tests/plan/search_test.py.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax

CONTEXTS = (1, 2, 4, 8)
STATES = 16  # devices that share the states of whole weights: more of them gather no faster
GROUPS = (1, 2, 4)  # samples on each group of devices
KEPT = ("full", "attention", "attention_inputs")  # remat policies, from little memory to much


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One way to run a step."""

    rules: str
    data: int
    fsdp: int
    context: int
    remat: str
    samples: int

    def applied(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings with it."""
        changed = copy.deepcopy(dict(settings))
        mesh = {name: getattr(self, name) for name in ("rules", "data", "fsdp", "context")}
        changed["mesh"] = {**changed["mesh"], **mesh, "tensor": 1}
        changed["model"]["denoiser"]["dit"]["remat"] = self.remat
        changed["data"]["batch_size"] = self.samples
        return changed

    def asks_no_less_than(self, other: "Candidate") -> bool:
        """Whether what does not fit for the other does not fit for this one."""
        ours, theirs = (dataclasses.replace(each, remat="", samples=0) for each in (self, other))
        keeps = KEPT.index(self.remat) >= KEPT.index(other.remat)
        return ours == theirs and keeps and self.samples >= other.samples


def candidates(devices: int, accumulate: int) -> list[Candidate]:
    """All that go round on so many devices, those that ask for little first."""
    found = list[Candidate]()
    for context in (size for size in CONTEXTS if devices % size == 0):
        groups = devices // context
        shared = math.gcd(groups, STATES)
        splits = [("replicated", shared), ("fsdp", groups), ("fsdp", shared)]
        splits += [("sliced", groups)] if context > 1 else []
        for (rules, fsdp), each, remat in itertools.product(dict.fromkeys(splits), GROUPS, KEPT):
            samples = groups * each * accumulate
            found.append(Candidate(rules, groups // fsdp, fsdp, context, remat, samples))
    return sorted(found, key=lambda one: (-one.context, one.samples))


def hopeless(candidate: Candidate, failed: Iterable[Candidate]) -> bool:
    """Whether one that asks for no more did not fit."""
    return any(candidate.asks_no_less_than(other) for other in failed)


def given(arguments: Any) -> int:
    """Bytes of the arguments of a step on each device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(arguments)
    )


def front(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Of the rows that fit, those that no other beats in both, fastest first.

    Args:
      rows: Reports with `bounds`, `samples` and the `share` of the memory.
    """
    least = math.inf
    fitting = [row for row in rows if row.get("bounds") and row["memory"]["share"] <= 1]
    for row in sorted(fitting, key=lambda row: (pace(row), row["memory"]["share"])):
        if row["memory"]["share"] < least:
            least = row["memory"]["share"]
            yield row


def pace(row: Mapping[str, Any]) -> float:
    """Seconds of a sample, at best."""
    return row["bounds"]["step"] / row["samples"]
