"""Floating-point operations of matrix products, counted in a traced program.

A scan counts its body as often as it runs, a part under `shard_map` once per device, a Pallas call
by the formula of its kernel, and of the kernels that the program chooses among by platform
(ft_jax/kernels/dispatch.py) only the platform's own.

  Flops.total    all products
  Flops.narrow   of them, what contracts over at most 128 entries, half of what a matrix unit of
                 256 x 256 holds

Tests: tests/plan/flops_test.py (against the formula of the DiT and XLA's own count).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import Literal

from ft_jax.nn.rope import exchange_lanes

LANES = 128
# Products of one call and how many of them contract over the width of a head.
KERNELS = {
    "splash_mha_fwd": (2, 1),  # scores; result
    "splash_mha_dkv": (5, 2),  # scores, their gradient; gradients of q, k, v
}


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations (a multiplication and an addition are two) over all devices."""

    total: float = 0.0
    narrow: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.total + other.total, self.narrow + other.narrow)

    def __mul__(self, times: int | float) -> "Flops":
        return Flops(self.total * times, self.narrow * times)


def count(jaxpr: Any, platform: str) -> Flops:
    """Operations of a jaxpr, lowered for `platform`.

    Raises:
      ValueError: A Pallas kernel without a formula, or a loop that runs nobody knows how often.
    """
    total, chosen = Flops(), dict[Any, int]()
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "platform_index":
            chosen[equation.outvars[0]] = _index(params["platforms"], platform)
        elif params.get("name") == exchange_lanes.__name__:
            continue
        elif name == "dot_general":
            total += _dot(equation)
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "pallas_call":
            shapes = [variable.aval.shape for variable in equation.invars]
            total += kernel(params["name"], shapes)
        elif name == "cond" and not isinstance(equation.invars[0], Literal):
            index = chosen.get(equation.invars[0])
            branches = [branch.jaxpr for branch in params["branches"]]
            if index is not None:
                total += count(branches[index], platform)
            else:
                found = [count(branch, platform) for branch in branches]
                total += max(found, key=lambda flops: flops.total)
        elif name == "while" and count(params["body_jaxpr"].jaxpr, platform).total:
            raise ValueError("a while loop around a matrix product: it has no count")
        else:
            times = _times(equation)
            for inner in _inner(params):
                total += count(inner, platform) * times
    return total


def kernel(name: str, shapes: list[tuple[int, ...]]) -> Flops:
    """Operations of one Pallas call; `shapes` begin with those of q and k, [... l k] each.

    Raises:
      ValueError: There is no formula for a kernel of this name.
    """
    products = next((KERNELS[key] for key in KERNELS if name.startswith(key)), None)
    if products is None:
        raise ValueError(f"Pallas kernel {name!r}: no formula; known are {sorted(KERNELS)}")
    one = 2.0 * math.prod(shapes[0]) * shapes[1][-2]
    return Flops(products[0] * one, products[1] * one)


def _index(platforms: Any, platform: str) -> int:
    """The branch for `platform`; the one of None is for all that are not named."""
    named = [index for index, names in enumerate(platforms) if names and platform in names]
    rest = [index for index, names in enumerate(platforms) if not names]
    return (named or rest)[0]


def _dot(equation: Any) -> Flops:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    width = math.prod(left[axis] for axis in contracted)
    found = 2.0 * math.prod(out) * width
    return Flops(found, found if width <= LANES else 0.0)


def _convolution(equation: Any) -> Flops:
    kernel_shape = equation.invars[1].aval.shape
    features = kernel_shape[equation.params["dimension_numbers"].rhs_spec[0]]
    width = math.prod(kernel_shape) / features
    found = 2.0 * math.prod(equation.outvars[0].aval.shape) * width
    return Flops(found, found if width <= LANES else 0.0)


def _times(equation: Any) -> int:
    if equation.primitive.name == "scan":
        return equation.params["length"]
    if equation.primitive.name == "shard_map":
        return math.prod(equation.params["mesh"].shape.values())
    return 1


def _inner(params: Any) -> Iterator[Any]:
    """The programs inside an operation."""
    for value in params.values():
        for item in value if isinstance(value, list | tuple) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
