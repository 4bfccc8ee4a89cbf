"""Matrices in eight bits: a whole number for each weight, one scale for each output channel.

    weight [..., inputs, outputs]  ->  QArray: qvalue int8 of that shape, scale [..., 1, outputs]
    qvalue = round(weight / scale),  scale = max over the inputs of |weight| / 127

so that a weight is off by at most half its channel's scale, and a maximum over the inputs gives the
same bits however they are split over devices. Products are those of the type that the activations
have: a matrix is made whole where it is multiplied with, once in each direction, and never kept for
the backward pass, which would keep those of all blocks. It has no gradient.

The numbers are those of the library qwix. Its own way into a network (PtqProvider) is not taken: it
derives axes from one block and applies them to the stacked ones. It is loaded when a matrix is
quantised or multiplied with; whoever asks whether one is need not have it.

Tests: tests/nn/quantised_test.py; in a run tests/training/quantised_test.py.
"""

import importlib.util
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from ft_jax.errors import UsageError


def need_library() -> None:
    """Raises a UsageError unless qwix is installed."""
    if importlib.util.find_spec("qwix") is None:
        raise UsageError(
            "qwix: not installed; expected it for frozen_dtype int8 (pip install 'ft_jax[int8]')"
        )


def is_quantised(leaf: Any) -> bool:
    """Whether a leaf of a parameter tree is a matrix in eight bits."""
    return hasattr(leaf, "qvalue")


def quantise(matrix: Float[Array, "*b c o"]) -> Any:
    """The matrix, or each of a stack of them, as a QArray with float32 scales."""
    import qwix

    channels = [axis for axis in range(matrix.ndim) if axis != matrix.ndim - 2]
    return qwix.quantize(matrix.astype(jnp.float32), jnp.int8, channelwise_axes=channels)


def abstract(leaf: Any) -> Any:
    """What `quantise` makes of an abstract matrix with a sharding; scales lie with channels."""
    made = jax.eval_shape(quantise, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    spec = leaf.sharding.spec
    axes = [*spec, *[None] * (len(leaf.shape) - len(spec))]
    axes[-2] = None
    where = (leaf.sharding, NamedSharding(leaf.sharding.mesh, PartitionSpec(*axes)))
    leaves, structure = jax.tree.flatten(made)  # the numbers, then their scales
    placed = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        for x, sharding in zip(leaves, where, strict=True)
    ]
    return jax.tree.unflatten(structure, placed)


def whole(matrix: Any, dtype: Any) -> Float[Array, "*b c o"]:
    """The matrix that a QArray stands for, rounded once to `dtype`."""
    import qwix

    return qwix.dequantize(matrix).astype(dtype)


@jax.custom_vjp
def product(x: Float[Array, "*b c"], matrix: Any) -> Float[Array, "*b o"]:
    """Multiplies, in the type of `x`."""
    return jnp.einsum("...c,co->...o", x, whole(matrix, x.dtype))


def _forward(x: Array, matrix: Any) -> tuple[Array, Any]:
    return product(x, matrix), matrix


def _backward(matrix: Any, gradient: Array) -> tuple[Array, None]:
    return jnp.einsum("...o,co->...c", gradient, whole(matrix, gradient.dtype)), None


product.defvjp(_forward, _backward)
