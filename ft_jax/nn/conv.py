"""Convolutions of one, two and three dimensions, channels last.

XLA's 3-D convolution is many times slower than its 2-D one on CPUs. There a 3-D convolution of time
stride 1 runs as one 2-D convolution whose input channels are the time taps side by side: the same
numbers, 3-8 times faster (benchmarks/RESULTS.md). Accelerators take the 3-D form.

Tests: tests/nn/conv_test.py (both forms agree, gradients too).
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ft_jax.nn.linear import Init, initializer, lift

Padding = str | Sequence[tuple[int, int]]


class Conv(nn.Module):
    """kernel [*taps, inputs // groups, outputs]; padding as `lax.conv_general_dilated` takes it."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    strides: int | tuple[int, ...] = 1
    padding: Padding = "SAME"
    groups: int = 1
    use_bias: bool = True
    initial: Init = "lecun"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "b *l c"]) -> Float[Array, "b *w o"]:
        """Convolves over all axes between the first and the last."""
        rank = len(self.kernel)
        axes = (None,) * rank + ("conv_in", "conv_out")
        in_axis = tuple(range(rank + 1))
        shape = (*self.kernel, self.inputs // self.groups, self.outputs)
        kernel = self.param("kernel", initializer(self.initial, axes, in_axis), shape)
        dtype = self.dtype or x.dtype
        strides = (self.strides,) * rank if isinstance(self.strides, int) else self.strides
        y = convolve(x.astype(dtype), kernel.astype(dtype), strides, self.padding, self.groups)
        if self.use_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("norm",))
            bias = jnp.asarray(self.param("bias", zeros, (self.outputs,)))
            y = y + lift(bias.astype(dtype), y.ndim)
        return y


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding, groups: int = 1
) -> jax.Array:
    """Convolves x [b *taps c] in the form that is fast on the platform; kernel as in `Conv`."""
    is_foldable = kernel.ndim == 5 and strides[0] == 1 and groups == 1
    if is_foldable and not isinstance(padding, str):
        return lax.platform_dependent(
            x,
            kernel,
            cpu=lambda x, kernel: _taps_in_channels(x, kernel, strides, padding),
            default=lambda x, kernel: _convolve(x, kernel, strides, padding, 1),
        )
    return _convolve(x, kernel, strides, padding, groups)


def _convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding, groups: int
) -> jax.Array:
    taps = "DHW"[3 - (kernel.ndim - 2) :]
    layout = (f"N{taps}C", f"{taps}IO", f"N{taps}C")
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups
    )


def _taps_in_channels(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Sequence[tuple[int, int]]
) -> jax.Array:
    taps, batch = kernel.shape[0], x.shape[0]
    if padding[0] != (0, 0):
        x = jnp.pad(x, ((0, 0), tuple(padding[0]), *((0, 0),) * 3))
    frames = x.shape[1] - taps + 1
    if taps > 1:
        x = jnp.concatenate([x[:, tap : tap + frames] for tap in range(taps)], axis=-1)
    kernel = jnp.concatenate(list(kernel), axis=2)
    flat = x.reshape(batch * frames, *x.shape[2:])
    y = _convolve(flat, kernel, strides[1:], padding[1:], 1)
    return y.reshape(batch, frames, *y.shape[1:])
