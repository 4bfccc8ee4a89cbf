"""Identity: tokens that tell faces apart, the paper's weight, zero at the start, two places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ft_jax.models import identity
from tests.models import small

BRANCH = identity.IdentityBranch(
    small.CONFIG.identity, small.DIT.layers, small.DIT.heads, small.DIT.width, small.DIT.dtype
)


def _tokens(embedding):
    return BRANCH.apply({"params": small.params()["identity"]}, embedding, method="tokens")


def test_there_is_one_token_a_query_and_they_tell_faces_apart():
    faces = jax.nn.standardize(jax.random.normal(jax.random.key(0), (2, 8))) / 8**0.5
    tokens = _tokens(faces)
    assert tokens.shape == (2, 3, 16)
    assert np.abs(tokens[0] - tokens[1]).max() > 0.01
    assert np.abs(tokens[0, 0] - tokens[0, 1]).max() > 0.01


def test_the_face_reaches_every_token():
    face = jnp.full((1, 8), 8**-0.5)
    influence = jax.jacrev(lambda x: _tokens(x).sum((0, 2)))(face)
    assert (np.abs(influence).max((1, 2)) > 1e-4).all()


def test_the_term_carries_the_weight_of_the_paper():
    term = BRANCH.apply(
        {"params": small.params()["identity"]}, jnp.ones((2, 8)), jnp.array([1.0, 0.0])
    )
    np.testing.assert_array_equal(term.hearing.scale, [0.5, 0.0])
    assert term.keys.key.shape == (2, 2, 3, 2, 12)


def test_keys_and_values_start_at_zero_and_queries_do_not():
    fresh = small.fresh()["identity"]
    assert not np.any(fresh["key"]["kernel"]) and not np.any(fresh["value"]["kernel"])
    assert np.std(fresh["queries"]["table"]) > 0


def test_after_the_output_projection_equals_before_where_that_changes_nothing():
    late = dataclasses.replace(
        small.CONFIG, identity=dataclasses.replace(small.CONFIG.identity, projected=False)
    )
    params = small.params()

    def both(given):
        return [small.apply(given, cfg, *small.inputs()) for cfg in (small.CONFIG, late)]

    before, after = both(params)
    assert np.abs(before - after).max() > 1e-3
    blocks = params["dit"]["blocks"]
    kernel = blocks["cross_attention"]["output"]["kernel"]
    passing = {"kernel": jnp.broadcast_to(jnp.eye(kernel.shape[-1]), kernel.shape)}
    passing["bias"] = jnp.zeros_like(blocks["cross_attention"]["output"]["bias"])
    cross = {**blocks["cross_attention"], "output": passing}
    dit = {**params["dit"], "blocks": {**blocks, "cross_attention": cross}}
    before, after = both({**params, "dit": dit})
    np.testing.assert_allclose(before, after, atol=1e-5)
