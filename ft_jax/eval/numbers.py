"""A table of measured numbers, each with its interval, its target and whether it is met.

In: intervals (`bootstrap`) and what was asked of them. Out: lines of text, and JSON that is merged
into the file beside it, so that each row can be measured on its own and on another day.

Invariants: a number without a target is neither met nor missed; writing is atomic; rows that were
not measured this time stay as they were, unless they came from other weights.

Tests: tests/eval/numbers_test.py.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from ft_jax.eval.bootstrap import Interval

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked of a number; None asks nothing."""

    least: float | None = None
    most: float | None = None
    least_low: float | None = None  # the lower bound of the interval

    def is_met(self, interval: Interval) -> bool:
        """Whether the interval satisfies every bound."""
        return (
            (self.least is None or interval.value >= self.least)
            and (self.most is None or interval.value <= self.most)
            and (self.least_low is None or interval.low >= self.least_low)
        )

    def __str__(self) -> str:
        """For people: '>= 0.4, lower bound >= 0.3'."""
        parts = []
        if self.least is not None:
            parts.append(f">= {self.least:.3g}")
        if self.most is not None:
            parts.append(f"<= {self.most:.3g}")
        if self.least_low is not None:
            parts.append(f"lower bound >= {self.least_low:.3g}")
        return ", ".join(parts)


@dataclasses.dataclass(frozen=True)
class Number:
    """One row: what was measured, over how many clips, and what was asked."""

    name: str
    meaning: str
    interval: Interval
    target: Target | None = None

    def record(self) -> dict[str, Any]:
        """The row as JSON values."""
        values = dataclasses.asdict(self.interval)
        finite = {k: round(v, 6) if math.isfinite(v) else None for k, v in values.items()}
        return {
            "meaning": self.meaning,
            **finite,
            "target": str(self.target) if self.target else None,
            "met": self.target.is_met(self.interval) if self.target else None,
        }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as aligned text, one line each."""
    lines = [("", "number", "value", "95 % interval", "clips", "target")]
    for name, row in rows.items():
        mark = {True: "met", False: "MISSED", None: ""}[row["met"]]
        known = row["low"] is not None
        bounds = f"{row['low']:.3f} .. {row['high']:.3f}" if known else "unknown"
        cells = (mark, name, f"{row['value']:.3f}", bounds, str(row["count"]), row["target"] or "")
        lines.append(cells)
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def merge(path: Path, numbers: list[Number], about: dict[str, Any]) -> dict[str, Any]:
    """Writes the numbers into the JSON file at `path` and returns what it now holds.

    Args:
      path: The file; created, or kept where it was made with the same `about`.
      numbers: New rows; a row of the same name is replaced.
      about: What the numbers depend on as a whole (weights, pairs, seed).
    """
    held: dict[str, Any] = {}
    if path.exists():
        before = json.loads(path.read_text())
        if before.get("schema") == SCHEMA and before.get("about") == about:
            held = before["numbers"]
    rows = held | {number.name: number.record() for number in numbers}
    content = {"schema": SCHEMA, "about": about, "numbers": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(beside, path)
    return content
