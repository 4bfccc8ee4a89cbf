"""Positions over eight devices: speech is heard without a word between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.models import audio
from ft_jax.models.term import Hearing, Keys, add_term
from ft_jax.plan import collectives, hlo
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import constrain, partitioned

FRAMES, POSITIONS = 21, 16  # 81 frames; no divisor of 8 in 21


@pytest.mark.parametrize("mode", ["clip", "frame"])
def test_the_audio_term_needs_no_communication(mode: audio.Mode):
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    given = audio.frame_windows(164, 4 * (FRAMES - 1) + 1) if mode == "frame" else None
    windows = None if given is None else jax.tree.map(jnp.asarray, given)
    query, total = (draw(1, POSITIONS * FRAMES, 2, 4) for _ in range(2))
    keys, scale = Keys(draw(1, 164, 2, 4), draw(1, 164, 2, 4)), jnp.ones(1)

    def heard(total: jax.Array, query: jax.Array, keys: Keys) -> jax.Array:
        total, query = (
            constrain(x, "act_batch", "act_seq", "act_heads", None) for x in (total, query)
        )
        out = add_term(total, query, keys, Hearing(scale, windows))
        return constrain(out, "act_batch", "act_seq", "act_heads", None)

    def with_gradient(total: jax.Array, query: jax.Array, keys: Keys) -> tuple[jax.Array, ...]:
        out, pull = jax.vjp(lambda total, query: heard(total, query, keys), total, query)
        return out, *pull(out)

    expected = jax.jit(with_gradient)(total, query, keys)
    cfg = meshes.Config(data=1, context=8)
    mesh = meshes.make(cfg)
    with partitioned(mesh, cfg.rules):
        program = jax.jit(with_gradient).lower(total, query, keys).compile()
        found = program(total, query, keys)
    every = collectives.find(hlo.parse(program.as_text() or ""), dict(mesh.shape))
    assert [one for one in every if one.devices > 1] == []
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert not found[0].sharding.is_fully_replicated
