"""The kernel for CPUs: every way through it equals the reference, and none holds all scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.kernels import attention, cpu, reference
from tests.kernels.program import largest_tensor

# queries, keys, heads and queries of the mask, is it small?, queries that are handled at a time
CASES = {
    "one product": (7, 5, (3, 7), True, 7),
    "whole heads": (300, 300, (1, 1), False, 300),
    "pieces, a mask of keys": (300, 1500, (1, 1), False, 150),
    "pieces, a mask for each head and query": (300, 1500, (3, 300), False, 150),
    "pieces, the last filled up, no mask": (301, 1500, None, False, 151),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_in_values_and_gradients(case: str):
    queries, keys, masked, is_small, rows = CASES[case]
    assert (cpu.is_small(queries, keys), cpu.piece_rows(queries, keys)) == (is_small, rows)
    draw = np.random.default_rng(0)
    shapes = [(2, length, 3, 8) for length in (queries, keys, keys, queries)]
    q, k, v, grad = (jnp.asarray(draw.standard_normal(shape), jnp.float32) for shape in shapes)
    mask = None
    if masked is not None:
        mask = jnp.asarray(draw.random((2, *masked, keys)) < 0.6).at[0, :, 0].set(False)

    def run(kernel, q, k, v, mask, grad):
        out, total = kernel.forward(q, k, v, mask, 0.3)
        return out, total, kernel.backward(q, k, v, mask, 0.3, (out, total), grad)

    given = (q, k, v, mask, grad)
    expected, found = (jax.jit(functools.partial(run, x))(*given) for x in (reference, cpu))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=5e-6), found, expected)


def test_no_more_than_a_piece_of_the_scores_exists():
    q = jax.ShapeDtypeStruct((1, 2048, 2, 8), jnp.float32)
    loss = lambda q, k, v: attention(q, k, v).sum()  # noqa: E731
    program = jax.jit(jax.grad(loss, (0, 1, 2))).trace(q, q, q).lower()
    assert largest_tensor(program) == cpu.PIECE
