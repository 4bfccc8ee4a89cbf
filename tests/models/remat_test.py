"""What is offloaded is what would be kept; that the gradient is the same, says dit_test.py."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest

from ft_jax.models import fantasy
from tests.models import small

BASE = fantasy.Config(small.DIT, None, None, None)
INPUT = "2x30x24xf32"  # tokens of a block
RESULT = ["2x30x2x12xf32", "2x2x30xf32"]  # of the self-attention, and its log-sum-exp
QUERIES = ["2x30x2x12xf32"] * 3  # and keys and values


def gradient(remat):
    """Of a loss with respect to all parameters, traced."""
    cfg = dataclasses.replace(BASE, dit=dataclasses.replace(small.DIT, remat=remat))
    latents, sigma, conditions = small.inputs()

    def loss(params):
        velocity = fantasy.apply(params, cfg, latents, sigma, conditions)
        return jnp.mean(jnp.square(velocity - latents))

    return jax.jit(jax.grad(loss)).trace(small.params(BASE))


@pytest.mark.parametrize(
    ("remat", "expected"),
    [
        ("attention", []),
        ("attention_inputs", []),
        ("attention_offloaded", [INPUT, *RESULT]),
        ("attention_inputs_offloaded", [INPUT, *RESULT, *QUERIES]),
    ],
)
def test_on_a_tpu_what_is_offloaded_goes_to_the_host_and_comes_back(remat, expected):
    text = gradient(remat).lower(lowering_platforms=("tpu",)).as_text()
    place = r'annotate_device_placement.+_xla_buffer_placement = "(\w+)".+<(\S+)>$'
    moves = re.findall(place, text, re.MULTILINE)
    for memory in ("pinned_host", "device"):
        assert sorted(shape for kind, shape in moves if kind == memory) == sorted(expected)
