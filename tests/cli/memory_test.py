"""Freed memory stays with the process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, sys
import numpy as np
from ft_jax.cli import memory

if sys.argv[1] == "kept":
    assert memory.keep()
np.ones(2**26, np.uint8)  # 64 MiB, freed at once
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    np.ones(2**26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    """Pages that four more buffers of 64 MiB cost."""
    command = [sys.executable, "-c", PROGRAM, mode]
    return int(subprocess.run(command, capture_output=True, check=True, cwd=ROOT).stdout)


def test_buffers_that_come_back_cost_no_page_faults() -> None:
    assert faults("kept") < 100 < faults("given back")
