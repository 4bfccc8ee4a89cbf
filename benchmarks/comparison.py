"""Rows of a benchmark against PyTorch, their command line and table: seconds, ratio, memory.

Both sides run in turns in this process, in float32, on the device that JAX has (PyTorch on a GPU
where it sees one) and with all cores; medians count. Before anything is timed the outputs are
compared, so that both did the same work.

Memory on a CPU: how far the resident set rises above what lay there before the run (weights and
inputs), once per side. On other devices: what XLA's plan of buffers says, and PyTorch's counter.
"""

import argparse
import ctypes
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import results, timing

TOLERANCE = 1e-3  # of the largest value: the same work, not parity (tests/parity has that)


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison: what both sides compute, and how often PyTorch's time ours may take.

    Attributes:
      name: As the table says it.
      goal: Largest ratio of the seconds that is aimed at on a CPU.
      ours: A function of `inputs`, to be compiled; of several results the first is compared.
      inputs: Arrays.
      theirs: Runs PyTorch and gives its result.
      arranged: Brings PyTorch's result to our layout.
      carries: Whether `ours` updates its first input, a state, to its second result.
    """

    name: str
    goal: float
    ours: Callable[..., Any]
    inputs: tuple[Any, ...]
    theirs: Callable[[], Any]
    arranged: Callable[[np.ndarray], np.ndarray] = lambda x: x
    carries: bool = False


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal values in float32."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def last(x: np.ndarray) -> np.ndarray:
    """Channels from the second place, where torch has them, to the end."""
    return np.moveaxis(x, 1, -1)


def torch_device() -> Any:
    """The GPU, where JAX runs on one and this PyTorch can; else the CPU."""
    import torch

    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def tensor(x: np.ndarray) -> Any:
    """On PyTorch's device."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(torch_device())


def without_gradient(run: Callable[[], Any]) -> Callable[[], Any]:
    """The run as inference does it."""
    import torch

    def inner() -> Any:
        with torch.inference_mode():
            return run()

    return inner


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def rise(run: timing.Run) -> float:
    """GiB that the resident set rises by during a run (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier runs let go of would be taken up again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what lies there now
    before = resident("VmRSS")
    run()
    return max(0, resident("VmHWM") - before) / 2**30


def memory(run: timing.Run, theirs: timing.Run, row: Row) -> tuple[float, float]:
    """GiB beyond weights and inputs: ours, PyTorch's."""
    import torch

    if torch_device().type == "cpu" and jax.default_backend() == "cpu":
        return rise(run), rise(theirs)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), row.inputs)
    program = jax.jit(row.ours, donate_argnums=0 if row.carries else ())
    plan: Any = program.lower(*shapes).compile().memory_analysis()
    if torch_device().type == "cpu":
        return plan.temp_size_in_bytes / 2**30, rise(theirs)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    theirs()
    most = torch.cuda.max_memory_allocated() - before
    return plan.temp_size_in_bytes / 2**30, most / 2**30


def measured(row: Row, repeat: int) -> list[str]:
    """One line of the table.

    Raises:
      ValueError: The two sides did not compute the same.
    """
    import torch

    def theirs() -> Any:
        result = row.theirs()
        if result.is_cuda:
            torch.cuda.synchronize()
        return result

    run, _ = timing.compiled(row.ours, *row.inputs, carries=row.carries)
    found, expected = jax.tree.leaves(run())[0], row.arranged(theirs().cpu().numpy())
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    if not error < TOLERANCE:
        raise ValueError(f"{row.name}: the sides differ by {error:.1e} of the largest value")
    seconds = timing.medians({"ours": run, "theirs": theirs}, repeat)
    ratio = seconds["ours"] / seconds["theirs"]
    line = [row.name, *(f"{seconds[side]:.3f}" for side in ("ours", "theirs")), f"{ratio:.2f}"]
    return [*line, f"{row.goal:.1f}", *(f"{each:.2f}" for each in memory(run, theirs, row))]


def main(
    module: str, title: str, cases: Mapping[str, Callable[[], Iterator[Row]]], about: str
) -> None:
    """Command line of the benchmark `module`, which `about` describes.

    Args:
      module: Its name in this folder.
      title: Of its section in benchmarks/RESULTS.md.
      cases: The rows by the name that `--only` takes.
      about: Its docstring.
    """
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--only", choices=cases, help="these rows alone")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "gpu", "tpu"), help="of JAX; default: its own")
    parser.add_argument("--write", action="store_true", help="also into benchmarks/RESULTS.md")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("--write: of --only; expected all rows")
    if args.device:
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(args.device, args.device))
    jax.config.update("jax_default_matmul_precision", "highest")
    rows = []
    for name in [args.only] if args.only else cases:
        for row in cases[name]():
            rows.append(measured(row, args.repeat))
            print(*rows[-1], sep="  ", flush=True)
    header = ["", "ours, s", "PyTorch, s", "ratio", "goal", "ours, GiB", "PyTorch, GiB"]
    table = results.table(header, rows)
    print(table)
    if args.write:
        import torch

        how = (
            f"`python -m benchmarks.{module} --repeat {args.repeat} --write`: medians of runs in "
            f"turns, float32, jax {jax.__version__} on {jax.devices()[0].device_kind}, torch "
            f"{torch.__version__} on {torch_device().type}; {results.machine()}. Memory is "
            "beyond weights and inputs."
        )
        results.write(title, f"{how}\n\n{table}")
