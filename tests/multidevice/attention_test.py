"""One device equals eight: attention under every way to split it, values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax import kernels
from ft_jax.models import dit
from ft_jax.nn.attention import attention
from ft_jax.nn.rope import rope_table
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned

# Of the forward and the backward pass together.
ULYSSES, GATHERED, WHOLE = {"all_to_all": 8}, {"all_gather": 2, "reduce_scatter": 2}, {}
# name: mesh, heads, samples, queries, is a key masked?, collectives of attention over the video
CASES = {
    "heads divide": (meshes.Config(data=1, context=8), 8, 2, 24, False, ULYSSES),
    "heads do not divide": (meshes.Config(data=2, context=4), 6, 2, 24, True, GATHERED),
    "every axis": (meshes.Config(fsdp=2, context=2, tensor=2), 4, 2, 24, True, ULYSSES),
    "lengths do not divide": (meshes.Config(data=2, context=4), 4, 2, 21, False, ULYSSES),
    "neither divides": (meshes.Config(data=2, context=4), 3, 2, 21, True, GATHERED),
    "samples do not divide": (meshes.Config(data=4, context=2), 4, 3, 24, False, ULYSSES),
    "no split of the video": (meshes.Config(data=2, fsdp=4), 3, 8, 21, True, WHOLE),
}
COLLECTIVES = ("all_to_all", "all_gather", "reduce_scatter")


def inputs(heads, samples, queries, keys):
    parts = jax.random.split(jax.random.key(0), 4)
    lengths = (queries, keys, keys, queries)
    q, k, v, grad = (
        jax.random.normal(part, (samples, length, heads, 4))
        for part, length in zip(parts, lengths, strict=True)
    )
    mask = np.arange(keys) < keys - 3 * np.arange(1, samples + 1)[:, None]
    return q, k, v, jnp.asarray(mask), grad


def value_and_gradients(function, q, k, v, mask, grad):
    out, pull = jax.vjp(lambda q, k, v: function(q, k, v, mask), q, k, v)
    return out, pull(grad)


def on_one_and_on_eight(cfg, function, *given):
    """Both results, and how often each kind of collective is in the program for eight."""
    expected = jax.jit(functools.partial(value_and_gradients, kernels.attention))(*given)
    with partitioned(meshes.make(cfg), cfg.rules):
        program = jax.jit(functools.partial(value_and_gradients, function)).lower(*given)
        found = program.compile()(*given)
    counts = {name: program.as_text().count(f'"stablehlo.{name}"') for name in COLLECTIVES}
    return expected, found, {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("case", CASES)
def test_attention_over_the_video_is_the_same_on_eight_devices(case: str):
    cfg, heads, samples, queries, is_masked, collectives = CASES[case]
    q, k, v, mask, grad = inputs(heads, samples, queries, queries)
    given = (q, k, v, mask if is_masked else None, grad)
    function = functools.partial(attention, keys="act_seq")
    expected, found, counts = on_one_and_on_eight(cfg, function, *given)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-6), found, expected)
    assert counts == collectives


@pytest.mark.parametrize("case", ["every axis", "neither divides"])
def test_attention_to_a_context_needs_no_exchange(case: str):
    cfg, heads, samples, queries, *_ = CASES[case]
    expected, found, counts = on_one_and_on_eight(
        cfg, attention, *inputs(heads, samples, queries, 9)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-6), found, expected)
    assert not counts


def test_the_self_attention_of_the_video_model_exchanges_tokens_for_heads():
    module = dit.SelfAttention(dit.Config(width=32, heads=4, precision="parity"))
    x, rope = jnp.ones((2, 24, 32)), rope_table(2, 3, 4, 8)
    params = module.init(jax.random.key(0), x, rope)
    with partitioned(meshes.make(meshes.Config(data=2, context=4)), "fsdp"):
        program = jax.jit(module.apply).lower(params, x, rope).as_text()
    assert program.count('"stablehlo.all_to_all"') == 4
