"""What holds for every test: CPU, no rank promotion, fixed seeds, and no silent skip.

A skip is a failure unless its reason begins with "needs tpu" or "needs gpu": a test that is skipped
checks nothing, and `make test` installs all that the others need.
"""

import os
import random
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
# Test processes run side by side; threads of one would only wait for those of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests compile much and compute little: without LLVM's optimisations a training step of a small
# network compiles up to eight times faster. XLA ends the process at a flag that it does not know.
QUICK_COMPILER = ["--xla_backend_optimization_level=0"]
if version("jaxlib").startswith("0.10."):
    QUICK_COMPILER.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *QUICK_COMPILER])

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
ALLOWED_SKIPS = ("needs tpu", "needs gpu")
_register_dataclass = jax.tree_util.register_dataclass


def _register_unchecked(cls: type, *arguments: Any, **options: Any) -> Any:
    cls.__no_type_check__ = True  # jaxtyping reads it
    return _register_dataclass(cls, *arguments, **options)


# JAX rebuilds trees with shardings, shapes or None in the place of arrays, so the fields of a tree
# cannot be checked when it is made; they are where a function takes them.
jax.tree_util.register_dataclass = _register_unchecked


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Global generators start equal in every test, for libraries that draw from them."""
    random.seed(0)
    np.random.seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns a skipped test into a failed one."""
    del item
    return _without_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turns a file that skips itself while it is imported into a failed one."""
    del collector
    return _without_skip((yield))


def _without_skip(report: Any) -> Any:
    if report.skipped and not hasattr(report, "wasxfail"):
        last = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        reason = str(last).removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"skipped, which counts as failed here: {reason}"
    return report
