"""benchmarks/RESULTS.md: one section for each benchmark, which that benchmark writes anew.

Tests: tests/benchmarks/results_test.py.
"""

import os
import platform
from pathlib import Path

PATH = Path(__file__).resolve().parent / "RESULTS.md"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What the numbers were measured on."""
    model = platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def replaced(text: str, title: str, body: str) -> str:
    """`text` with its section `title` (a line "## title" and what follows) as `body`."""
    sections = text.split("\n## ")
    kept = [each for each in sections[1:] if each.split("\n", 1)[0] != title]
    written = [each.strip("\n") for each in (*kept, f"{title}\n\n{body}")]
    return "\n\n## ".join([sections[0].strip("\n"), *sorted(written)]) + "\n"


def write(title: str, body: str, path: Path = PATH) -> None:
    """Replaces one section of the file; the others stay."""
    text = path.read_text() if path.exists() else "# What the benchmarks measured\n"
    beside = path.with_suffix(".new")
    beside.write_text(replaced(text, title, body))
    beside.replace(path)
