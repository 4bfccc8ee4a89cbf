"""The affine map, with its logical axes; and its low-rank change, where there is one.

Two matrices `down` and `up` in the collection `lora`, at the place of a kernel, are applied beside
it: y = x W + (x down) up. They are made, scaled and merged in ft_jax/models/lora.py, whose test
(tests/models/lora_test.py) guards that without them, and with a zero `up`, nothing changes.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ft_jax.nn import quantised
from ft_jax.sharding.constrain import gathered

Init = str | float
"""`"lecun"`, `"zeros"`, or the standard deviation of a normal distribution."""


def initializer(init: Init, axes: tuple[str | None, ...], in_axis: Any = -2) -> Any:
    """The initialiser named by `init`, boxed with the logical `axes` of the array it makes."""
    if init == "zeros":
        base = nn.initializers.zeros
    elif init == "lecun":
        base = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=in_axis)
    elif isinstance(init, float):
        base = nn.initializers.normal(init)
    else:
        raise ValueError(f"init {init!r}; expected 'lecun', 'zeros' or a float")
    return nn.with_logical_partitioning(base, axes)


def lift(vector: jax.Array, rank: int) -> jax.Array:
    """[c] -> [1, ..., 1, c]: rank promotion is spelt out (the tests forbid it silently)."""
    return vector.reshape((1,) * (rank - 1) + (-1,))


class Linear(nn.Module):
    """y = x @ kernel + bias, over the last axis; kernel [inputs, outputs]."""

    inputs: int
    outputs: int
    axes: tuple[str, str] = ("embed", "mlp")
    use_bias: bool = True
    initial: Init = "lecun"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b o"]:
        """Computes in `dtype`, or where it is None in the type of `x`."""
        shape = (self.inputs, self.outputs)
        kernel = self.param("kernel", initializer(self.initial, self.axes), shape)
        dtype = self.dtype or x.dtype
        x = x.astype(dtype)
        if quantised.is_quantised(kernel):
            kernel = kernel.replace(qvalue=gathered(kernel.qvalue, *self.axes))
            y = quantised.product(x, kernel)
        else:
            kernel = gathered(jnp.asarray(kernel, dtype), *self.axes)
            y = jnp.einsum("...c,co->...o", x, kernel)
        if self.has_variable("lora", "down"):
            down, up = (self.get_variable("lora", name).astype(dtype) for name in ("down", "up"))
            y = y + jnp.einsum("...r,ro->...o", jnp.einsum("...c,cr->...r", x, down), up)
        if self.use_bias:
            zeros = nn.with_logical_partitioning(nn.initializers.zeros, ("norm",))
            bias = jnp.asarray(self.param("bias", zeros, (self.outputs,)))
            y = y + lift(bias.astype(dtype), y.ndim)
        return y
