"""Compiled programs are kept, so that a command's second run starts in seconds.

They lie in the virtual environment, and go with it; outside of one nothing is kept. Every kind of
processor has a folder of its own, because what was compiled for one may not run on another.

Tests: tests/cli/generate_test.py (through the command).
"""

import hashlib
import os
import pathlib
import platform
import sys


def keep() -> None:
    """Says to JAX where; must run before it is imported. What the user has set goes first."""
    is_virtual = sys.prefix != sys.base_prefix
    if is_virtual and os.access(sys.prefix, os.W_OK):
        folder = pathlib.Path(sys.prefix) / "compiled" / _processor()
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def _processor() -> str:
    """A short name of the kind of processor."""
    known = pathlib.Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.is_file() else [platform.processor()]
    features = sorted({line for line in lines if line.startswith(("model name", "flags", "Feat"))})
    return hashlib.sha256("\n".join([platform.machine(), *features]).encode()).hexdigest()[:12]
