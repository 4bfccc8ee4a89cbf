"""Useful floating-point operations of one training step, from the jaxpr of its loss.

A product of matrices costs 2 m n k forward, and as much again for each factor that a gradient flows
through: twice for a frozen matrix behind something trained, three times for a trained one and for
attention. What is computed twice to save memory is not useful and not counted, as the backward pass
is never traced. Loops count by their length, Pallas calls by their grid, parts by their devices; of
the kernels that a program chooses among by platform the leanest counts: what others add is padding.

Source: the usual count (PaLM, appendix B). Tests: tests/training/flops_test.py.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend import core

from ft_jax.nn.rope import exchange_lanes

PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU7x": 1153.5e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}
"""Start of a device's kind -> its nameplate rate in bfloat16; a chip of TPU7x is two devices."""


def peak(kind: str) -> float | None:
    """Operations a second of a device of this kind; None for one that is not listed."""
    return next((rate for name, rate in PEAKS.items() if kind.startswith(name)), None)


def of_step(loss: Callable[..., Any], trained: Any, *others: Any) -> float:
    """Useful operations of `loss(trained, *others)` and its gradient in `trained`.

    Args:
      loss: Traced on the shapes of what follows.
      trained: Tree that the gradient is taken in.
      others: Trees that it is not taken in.
    """
    closed = jax.make_jaxpr(loss)(trained, *others)
    count = len(jax.tree.leaves(trained))
    learns = [index < count for index in range(len(closed.jaxpr.invars))]
    return _count(closed.jaxpr, learns)[0]


def _count(jaxpr: Any, learns: Sequence[bool]) -> tuple[float, list[bool]]:
    """Operations, and through which results a gradient flows, given the same of the arguments."""
    flows = dict(zip(jaxpr.invars, learns, strict=True))

    def get(atom: Any) -> bool:
        return not isinstance(atom, core.Literal) and flows.get(atom, False)

    total, platforms = 0.0, list[Any]()
    for equation in jaxpr.eqns:
        given = [get(atom) for atom in equation.invars]
        if equation.primitive.name == "platform_index":
            platforms += equation.outvars
        alike = any(index is atom for atom in equation.invars[:1] for index in platforms)
        cost, result = _equation(equation, given, min if alike else max)
        total += cost
        flows.update(zip(equation.outvars, result, strict=True))
    return total, [get(atom) for atom in jaxpr.outvars]


def _equation(
    equation: Any, given: list[bool], of: Callable[[Iterable[float]], float]
) -> tuple[float, list[bool]]:
    name, outs = equation.primitive.name, len(equation.outvars)
    if name in ("dot_general", "conv_general_dilated"):
        return _product(equation) * (1 + sum(given[:2])), [any(given)] * outs
    if name == "stop_gradient":
        return 0.0, [False] * outs
    if equation.params.get("name") == exchange_lanes.__name__:
        return 0.0, [any(given)] * outs
    if name == "scan":
        return _scan(equation, given)
    inner = [_opened(value) for value in _listed(equation.params.values())]
    inner = [jaxpr for jaxpr in inner if jaxpr is not None]
    if not inner:
        return 0.0, [any(given)] * outs
    # Of branches `of` them counts, of a loop without a length one turn. A branch is given all but
    # its index, the body of a loop all but what the condition reads, a kernel its results as well.
    costs, flowing = [], any(given)
    for jaxpr in inner:
        size = len(jaxpr.invars)
        own = given[len(given) - size :] if size <= len(given) else [flowing] * size
        costs.append(_count(jaxpr, own))
    cost = of(cost for cost, _ in costs)
    if name == "shard_map":  # its body is the part of one device
        cost *= math.prod(equation.params["mesh"].shape.values())
    if name == "pallas_call":
        cost *= math.prod(equation.params["grid_mapping"].grid)
    first = costs[0][1]
    return cost, first if len(inner) == 1 and len(first) == outs else [flowing] * outs


def _scan(equation: Any, given: list[bool]) -> tuple[float, list[bool]]:
    body = equation.params["jaxpr"].jaxpr
    # Constants, carry, then slices of what has one dimension more outside; JAX 0.10 and 0.12 name
    # their numbers differently.
    carries = _of_same_rank(equation.outvars, body.outvars)
    consts = _of_same_rank(equation.invars, body.invars) - carries
    state = list(given)
    while True:  # what a turn hands to the next one may flow into the carry
        cost, result = _count(body, state)
        carry = [a or b for a, b in zip(state[consts:], result[:carries], strict=False)]
        if carry == state[consts : consts + carries]:
            return cost * equation.params["length"], result
        state[consts : consts + carries] = carry


def _of_same_rank(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    return sum(a.aval.ndim == b.aval.ndim for a, b in zip(outer, inner, strict=True))


def _product(equation: Any) -> float:
    """2 x elements of the result x elements summed for each."""
    left, right = (atom.aval.shape for atom in equation.invars[:2])
    size = math.prod(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (summed, _), _ = equation.params["dimension_numbers"]
        return 2.0 * size * math.prod(left[axis] for axis in summed)
    numbers = equation.params["dimension_numbers"]
    return 2.0 * size * math.prod(right) / right[numbers.rhs_spec[0]]


def _opened(value: Any) -> Any:
    jaxpr = getattr(value, "jaxpr", value)
    return jaxpr if hasattr(jaxpr, "eqns") else None


def _listed(values: Any) -> list[Any]:
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
