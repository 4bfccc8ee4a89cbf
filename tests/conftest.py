"""What holds for every test: CPU, no rank promotion, fixed seeds, and no silent skip.

A skip is a failure unless its reason begins with "needs tpu" or "needs gpu": a test that is skipped
checks nothing, and `make test` installs all that the others need.
"""

import os
import random
from collections.abc import Generator

os.environ["JAX_PLATFORMS"] = "cpu"
# Test processes run side by side; threads of one would only wait for those of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
ALLOWED_SKIPS = ("needs tpu", "needs gpu")


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Global generators start equal in every test, for libraries that draw from them."""
    random.seed(0)
    np.random.seed(0)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo, None]:
    """Turns a skipped test into a failed one."""
    del item
    _refuse_skip((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CallInfo, None]:
    """Turns a file that skips itself while it is imported into a failed one."""
    del collector
    _refuse_skip((yield).get_result())


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    last = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
    reason = str(last).removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed here: {reason}"
