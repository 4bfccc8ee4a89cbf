"""Attention against PyTorch's on the same arrays: forward, and forward with gradients.

    python -m benchmarks.attention                    prints the table
    python -m benchmarks.attention --write            also into benchmarks/RESULTS.md
    python -m benchmarks.attention --only wide --repeat 9

How the two are compared: benchmarks/comparison.py. Both sides take queries, keys and values as the
linear layers of a network leave them, [samples tokens heads width].
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import comparison
from ft_jax.kernels import attention

TITLE = "Attention against PyTorch"
SHAPES = {
    "mini": (16, 144, 144, 6, 32),
    "speech": (16, 144, 24, 6, 32),
    "wide": (1, 300, 300, 40, 128),
    "context": (1, 1024, 769, 12, 128),
    "video": (1, 1280, 1280, 6, 128),
}
"""Samples, queries, keys, heads, head width: the mini denoiser among itself and to speech; a block
of 14B; text and image tokens; the denoiser of benchmarks/networks.py."""


def rows(name: str) -> Iterator[comparison.Row]:
    """The result, and the gradient of its squares to queries, keys and values."""
    from torch.nn.functional import scaled_dot_product_attention

    samples, queries, keys, heads, width = SHAPES[name]
    arrays = [
        comparison.drawn(samples, length, heads, width, seed=seed)
        for seed, length in enumerate((queries, keys, keys))
    ]
    given = [comparison.tensor(x) for x in arrays]

    def gradient(*x: jax.Array) -> tuple[jax.Array, ...]:
        return jax.grad(lambda *x: jnp.square(attention(*x)).sum(), (0, 1, 2))(*x)

    def theirs(*x: Any) -> Any:
        return scaled_dot_product_attention(*(each.transpose(1, 2) for each in x)).transpose(1, 2)

    def their_gradient() -> Any:
        x = [each.detach().requires_grad_() for each in given]
        theirs(*x).square().sum().backward()
        return x[0].grad

    inputs = tuple(map(jnp.asarray, arrays))
    forward = comparison.without_gradient(lambda: theirs(*given))
    yield comparison.Row(f"{name}, forward", 1.0, attention, inputs, forward)
    yield comparison.Row(f"{name}, with gradients", 1.5, gradient, inputs, their_gradient)


if __name__ == "__main__":
    cases = {name: functools.partial(rows, name) for name in SHAPES}
    comparison.main("attention", TITLE, cases, __doc__ or "")
