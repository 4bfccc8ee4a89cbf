"""What a verification found: checks in, a table for the terminal and one page of Markdown out.

A check is "sound", a "fault", a "warning" (unusual, and what is usual is partly a guess), a "note"
(measured, and nothing can be asked of it) or "skipped" (the finding says why). Faults alone make
the whole unsound.

Tests: tests/eval/soundness_test.py, tests/cli/verify_test.py.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

Verdict = Literal["sound", "fault", "warning", "note", "skipped"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
      name: What, in a few words.
      verdict: See the head of this file.
      finding: The number or the reason, in one line.
      details: Every single culprit, or every single number; on the page only.
    """

    name: str
    verdict: Verdict
    finding: str
    details: tuple[str, ...] = ()


def is_sound(checks: Sequence[Check]) -> bool:
    """Whether nothing was found wrong."""
    return all(check.verdict != "fault" for check in checks)


def table(checks: Sequence[Check]) -> str:
    """Aligned text, one line a check."""
    width = max(len(check.name) for check in checks)
    marks = {verdict: verdict for verdict in get_args(Verdict)} | {"sound": "ok", "fault": "FAULT"}
    return "\n".join(
        f"{marks[check.verdict]:<7}  {check.name:<{width}}  {check.finding}" for check in checks
    )


def page(checks: Sequence[Check], about: Mapping[str, str]) -> str:
    """Markdown: what was verified, the verdict, the table, the details.

    Args:
      checks: In the order they were made.
      about: What was verified and with what, {name: value}.
    """
    said = "sound" if is_sound(checks) else "NOT SOUND"
    lines = ["# Verification of weights", "", f"**{said}**", ""]
    lines += [f"* {name}: {value}" for name, value in about.items()]
    lines += ["", "| check | verdict | finding |", "|---|---|---|"]
    lines += [f"| {check.name} | {check.verdict} | {check.finding} |" for check in checks]
    for check in checks:
        if check.details:
            lines += ["", f"## {check.name}", "", "```", *check.details, "```"]
    return "\n".join(lines) + "\n"
