"""Attention against PyTorch's on this machine: forward, and forward with gradients.

    OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/attention.py

Both compute the same attention of float32 numbers by turns; the median of the CPU seconds counts,
because other programs on the machine do not change it much. One row a shape.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.kernels import attention

# samples, queries, keys, heads, head width
SHAPES = {
    "mini, self": (16, 144, 144, 6, 32),
    "mini, speech": (16, 144, 24, 6, 32),
    "full width, 300 tokens": (1, 300, 300, 40, 128),
    "text and image tokens": (1, 1024, 769, 12, 128),
    "self, 1560 tokens": (1, 1560, 1560, 12, 128),
}


def ours(arrays: list[np.ndarray]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The forward pass and the one with gradients."""
    q, k, v, grad = map(jnp.asarray, arrays)
    forward = jax.jit(attention)
    both = jax.jit(lambda q, k, v, grad: jax.vjp(attention, q, k, v)[1](grad))
    return (
        lambda: jax.block_until_ready(forward(q, k, v)),
        lambda: jax.block_until_ready(both(q, k, v, grad)),
    )


def torchs(arrays: list[np.ndarray]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same of PyTorch."""
    import torch

    *inputs, grad = (torch.tensor(x).transpose(1, 2) for x in arrays)
    q, k, v = (x.requires_grad_() for x in inputs)

    def forward() -> None:
        with torch.no_grad():
            torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def both() -> None:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        torch.autograd.grad(out, (q, k, v), grad)

    return forward, both


def interleaved(functions: list[Callable[[], Any]], repeat: int) -> list[float]:
    """The median CPU milliseconds of each, run by turns after one run that does not count."""
    spent: list[list[float]] = [[] for _ in functions]
    for _ in range(repeat + 1):
        for times, function in zip(spent, functions, strict=True):
            began = time.process_time()
            function()
            times.append(1000 * (time.process_time() - began))
    return [float(np.median(times[1:])) for times in spent]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=9)
    args = parser.parse_args()
    draw = np.random.default_rng(0)
    print("| shape | forward: ours, PyTorch (ms) | ratio | with gradients | ratio |")
    print("|---|---|---|---|---|")
    for name, (samples, queries, keys, heads, width) in SHAPES.items():
        shapes = [(samples, length, heads, width) for length in (queries, keys, keys, queries)]
        arrays = [draw.standard_normal(shape).astype(np.float32) for shape in shapes]
        (forward, both), (torch_forward, torch_both) = ours(arrays), torchs(arrays)
        a, b, c, d = interleaved([forward, torch_forward, both, torch_both], args.repeat)
        print(f"| {name} | {a:.1f}, {b:.1f} | {a / b:.2f} | {c:.1f}, {d:.1f} | {c / d:.2f} |")


if __name__ == "__main__":
    main()
