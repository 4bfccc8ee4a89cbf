"""Face embeddings: unit length, one picture at a time, stored statistics untouched by training."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from ft_jax.models import face

GROUP = face.Config(pixels=16, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), width=6, norm="group")
BATCH = dataclasses.replace(GROUP, norm="batch")
CROPS = jax.random.uniform(jax.random.key(1), (3, 16, 16, 3), minval=-1.0)


@functools.cache
def params(cfg):
    return jax.jit(face.init, static_argnums=1)(jax.random.key(0), cfg)


embed = jax.jit(face.embed, static_argnums=1)


@pytest.mark.parametrize("cfg", [GROUP, BATCH])
def test_embeddings_have_unit_length_and_depend_on_their_own_crop_only(cfg):
    vectors = embed(params(cfg), cfg, CROPS)
    np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(embed(params(cfg), cfg, CROPS[1:2]), vectors[1:2], atol=1e-5)


def test_stored_statistics_take_no_gradient_and_all_else_does():
    direction = jax.random.normal(jax.random.key(2), (3, 6))
    loss = jax.jit(jax.grad(lambda p: (face.embed(p, BATCH, CROPS) * direction).sum()))
    for path, value in traverse_util.flatten_dict(loss(params(BATCH)), sep="/").items():
        stored = path.rsplit("/", 1)[-1] in ("mean", "var")
        assert bool(jnp.any(value != 0)) != stored, path
