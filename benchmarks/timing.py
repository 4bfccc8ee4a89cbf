"""How long programs run: compiled once, warmed up once, taken in turns, of the rest the median.

Taking turns matters where two programs are compared: what else the machine does meanwhile slows
both.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Run = Callable[[], Any]


def compiled(
    function: Callable[..., Any], *arguments: Any, carries: bool = False
) -> tuple[Run, float]:
    """A run of `function` on `arguments` that waits for its result; seconds it took to compile.

    With `carries` the first argument is a state: it is donated, and the second result is the one
    that the next run starts from, as in training.
    """
    began = time.perf_counter()
    program = jax.jit(function, donate_argnums=0 if carries else ()).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    state, *others = arguments

    def run() -> Any:
        nonlocal state
        result = jax.block_until_ready(program(state, *others))
        if carries:
            state = result[1]
        return result

    return run, seconds


def medians(runs: Mapping[str, Run], repeat: int) -> dict[str, float]:
    """Median seconds of each run, after one that does not count; the runs take turns."""
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(each)) for name, each in seconds.items()}
