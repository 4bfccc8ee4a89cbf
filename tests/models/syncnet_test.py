"""SyncNet: the published tensors, and which statistics its norms use."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.convert import syncnet as tables
from ft_jax.convert import table
from ft_jax.models import syncnet

CFG = syncnet.Config(audio=(4,) * 6, lips=(4,) * 6, hidden=6, width=5)


def abstract(cfg):
    return jax.eval_shape(functools.partial(syncnet.init, cfg=cfg), jax.random.key(0))


def test_published_sizes_have_exactly_the_published_tensors():
    shapes = table.shapes(tables.SYNCNET, abstract(syncnet.Config()))
    assert shapes["netcnnlip.0.weight"] == (96, 3, 5, 7, 7)
    assert shapes["netcnnlip.18.weight"] == (512, 256, 1, 6, 6)
    assert shapes["netcnnaud.18.weight"] == (512, 256, 5, 4)
    assert shapes["netcnnaud.19.running_var"] == (512,)
    assert shapes["netfclip.3.weight"] == shapes["netfcaud.3.weight"] == (1024, 512)
    numbers = {key.split(".")[1] for key in shapes if key.startswith("netcnn")}
    assert numbers == {str(i) for i in (0, 1, 4, 5, 8, 9, 11, 12, 14, 15, 18, 19)}
    assert len(shapes) == 2 * (6 * 6 + 4 + 4)


def test_a_piece_gives_the_same_vector_alone_and_among_others():
    params = jax.jit(syncnet.init, static_argnums=1)(jax.random.key(0), CFG)
    cepstrum = jax.random.normal(jax.random.key(1), (3, 13, 20))
    run = jax.jit(syncnet.embed_audio, static_argnums=1)
    together = run(params, CFG, cepstrum)
    assert together.shape == (3, CFG.width)
    np.testing.assert_allclose(run(params, CFG, cepstrum[1:2]), together[1:2], atol=1e-6)


@pytest.mark.parametrize("frame", range(5))
def test_every_frame_reaches_the_vector(frame):
    params = abstract(CFG)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), params)
    lips = jnp.zeros((1, 5, 224, 224, 3))
    run = jax.jit(syncnet.embed_lips, static_argnums=1)
    moved = run(params, CFG, lips.at[:, frame].set(1.0)) - run(params, CFG, lips)
    assert np.abs(moved).min() > 1e-3
