r"""Host memory of an import: random weights of a released size as one file, imported by a child.

  python benchmarks/convert_memory.py --dtype=float32

The gate: at most twice the largest stacked array and 0.5 GB above what the interpreter
has by itself (after it has imported everything). Two numbers are shown: RssAnon, which is memory
that only this process can give back, sampled every 20 ms; and ru_maxrss, the highest total, which
counts pages of files too. Source and target lie in --folder and are removed.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

GB = 1e9


def system(size: str) -> Any:
    """The system of that name, from configs/models.py."""
    from configs import models
    from ft_jax.config import build
    from ft_jax.models.system import System

    return build(System, models.get_config(size).to_dict())


def write(path: Path, size: str, dtype: str) -> None:
    """A file of random numbers with the keys and shapes of the original DiT."""
    from ft_jax.convert import formats, safetensors_file, table

    made = system(size)
    fmt = formats.named("wan_comfyui")
    shapes = table.shapes(fmt.table(made), formats.abstract(made, fmt.part))
    kind = np.dtype(dtype)
    draw = np.random.default_rng(0)
    pool = draw.standard_normal(2**24, np.float32).astype(kind)

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for key, shape in shapes.items():
            yield fmt.prefixes[0] + key, np.resize(pool, shape)

    layout = {fmt.prefixes[0] + key: (shape, kind) for key, shape in shapes.items()}
    safetensors_file.write({path: layout}, stream(), {})


def anonymous() -> int:
    """RssAnon of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def convert(source: Path, out: Path, size: str) -> dict[str, float]:
    """What the command does, measured; runs in a process of its own."""
    from ft_jax.checkpoints import weights
    from ft_jax.config import to_dict
    from ft_jax.convert import folder, formats

    made = system(size)
    (found,) = folder.open_all(source)
    _, leaves = formats.leaves(found, made, None)
    peak = own = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, anonymous())

    watcher, start = threading.Thread(target=watch), time.monotonic()
    watcher.start()
    weights.save(out, to_dict(made), leaves)
    done.set()
    watcher.join()
    return {
        "own": own / GB,
        "largest": max(math.prod(x.shape) * x.dtype.itemsize for x in leaves.values()) / GB,
        "anonymous": peak / GB,
        "maxrss": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GB,
        "seconds": time.monotonic() - start,
    }


def main() -> None:
    """Makes the file, imports it in a child, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="wan_1_3b", help="of configs/models.py")
    parser.add_argument("--dtype", default="float32", help="of the file")
    parser.add_argument("--folder", default=None, help="for source and target")
    parser.add_argument("--convert", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.convert:
        print(json.dumps(convert(Path(given.convert[0]), Path(given.convert[1]), given.size)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        source = Path(place) / "whole.safetensors"
        write(source, given.size, given.dtype)
        command = [sys.executable, __file__, f"--size={given.size}", "--convert", str(source)]
        done = subprocess.run(
            [*command, f"{place}/out"], capture_output=True, text=True, check=True
        )
        seen, size = json.loads(done.stdout.splitlines()[-1]), source.stat().st_size / GB
    allowed = 2 * seen["largest"] + 0.5
    print(f"{given.size}, {given.dtype}: a file of {size:.2f} GB in {seen['seconds']:.0f} s")
    print(f"  interpreter with its libraries   {seen['own']:.2f} GB")
    print(f"  largest stacked array            {seen['largest']:.2f} GB")
    print(f"  peak of RssAnon                  {seen['anonymous']:.2f} GB")
    print(f"  peak of all, ru_maxrss           {seen['maxrss']:.2f} GB")
    above = max(seen["anonymous"], seen["maxrss"]) - seen["own"]
    verdict = "kept" if above <= allowed else "MISSED"
    print(f"  above the interpreter            {above:.2f} GB; allowed {allowed:.2f}: {verdict}")


if __name__ == "__main__":
    main()
