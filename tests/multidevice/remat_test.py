"""What a policy keeps is not exchanged once more on the way back."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from ft_jax.models import fantasy
from ft_jax.plan import collectives, hlo
from ft_jax.sharding import mesh
from ft_jax.sharding.constrain import partitioned, shardings
from tests.models import small


@pytest.mark.parametrize(("remat", "again"), [("attention", 4), ("attention_inputs", 1)])
def test_kept_queries_keys_and_values_are_exchanged_once(remat, again):
    """The exchange back is always repeated: what is kept is the result before it."""
    cfg = fantasy.Config(dataclasses.replace(small.DIT, remat=remat), None, None, None)
    given = small.params(cfg), *small.inputs()
    made = mesh.make(mesh.Config(data=4, context=2))

    def loss(params, latents, sigma, conditions):
        velocity = fantasy.apply(params, cfg, latents, sigma, conditions)
        return jnp.mean(jnp.square(velocity - latents))

    where = shardings(fantasy.abstract_params(cfg), made, "fsdp")
    program = jax.jit(jax.grad(loss), in_shardings=(where, None, None, None))
    with partitioned(made, "fsdp"):
        compiled = program.lower(*given).compile()
    every = collectives.find(hlo.parse(compiled.as_text() or ""), dict(made.shape))
    tokens = [one for one in every if one.kind == "all-to-all" and one.axes == "context"]
    forward = backward = 4  # queries, keys, values and the result, or their gradients
    assert sum(one.runs for one in tokens) == cfg.dit.layers * (forward + backward + again)
