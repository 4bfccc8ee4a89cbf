"""Operations counted in traced programs, against the network's formula and XLA's own count."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from ft_jax import kernels
from ft_jax.models import dit
from ft_jax.plan import flops

CONFIG = dit.Config(
    width=512, layers=2, heads=2, mlp_width=1024, text_width=64, text_tokens=128, image_width=None,
    precision="parity",
)  # fmt: skip
T, H, W = 2, 32, 32


def network(cfg: dit.Config):
    """Forward pass and abstract arguments."""
    model = dit.DiT(cfg)
    latents = jax.ShapeDtypeStruct((1, T, H, W, cfg.latent_channels), jnp.float32)
    text = jax.ShapeDtypeStruct((1, cfg.text_tokens, cfg.text_width), jnp.float32)

    def run(model, latents, text):
        return model(latents, jnp.ones((1,)), None, model.embed_context(text, None))

    init = functools.partial(model.init, method=run)
    params = jax.eval_shape(init, jax.random.key(0), latents, text)
    apply = functools.partial(model.apply, method=run)
    return apply, (params, latents, text)


def gradient(cfg: dit.Config, platform: str) -> flops.Flops:
    """Operations of the gradient of all parameters."""
    apply, arguments = network(cfg)
    function = jax.grad(lambda *given: jnp.sum(jnp.asarray(apply(*given))))
    return flops.count(jax.make_jaxpr(function)(*arguments).jaxpr, platform)


def formula(cfg: dit.Config) -> float:
    """Linear layers and attention of a forward pass, written down from the paper of the network."""
    tokens, wide, text = T * H * W // 4, cfg.width, cfg.text_tokens
    block = tokens * (6 * wide**2 + 2 * wide * cfg.mlp_width) + 2 * text * wide**2
    lanes = cfg.latent_channels * 4
    rest = 2 * tokens * lanes * wide + text * (cfg.text_width + wide) * wide
    rest += (cfg.frequency_width + wide + 6 * wide) * wide
    return 2 * (cfg.layers * block + rest) + 4 * cfg.layers * tokens * (tokens + text) * wide


@pytest.mark.parametrize("platform", ["cpu", "tpu", "cuda"])
def test_a_forward_pass_counts_as_its_formula_says(platform):
    apply, arguments = network(CONFIG)
    found = flops.count(jax.make_jaxpr(apply)(*arguments).jaxpr, platform)
    assert found.total == pytest.approx(formula(CONFIG), rel=0.02)


def test_the_count_is_that_of_xla_where_nothing_is_a_loop():
    cfg = dataclasses.replace(CONFIG, heads=1, scan=False)
    apply, arguments = network(cfg)
    analysis = jax.jit(apply).lower(*arguments).compile().cost_analysis() or {}
    found = flops.count(jax.make_jaxpr(apply)(*arguments).jaxpr, "cpu").total
    assert found == pytest.approx(analysis["flops"], rel=0.02)


def test_a_scan_counts_as_often_as_it_runs():
    w = jnp.ones((3, 8, 8))
    looped = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, k: (c @ k, None), x, w))(
        jnp.ones((4, 8))
    )
    assert flops.count(looped.jaxpr, "cpu").total == 3 * 2 * 4 * 8 * 8


def test_a_loop_without_a_count_is_refused():
    x = jnp.ones((4, 4))
    endless = jax.make_jaxpr(
        lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 5, lambda c: c @ x, x)
    )(x)
    with pytest.raises(ValueError, match="no count"):
        flops.count(endless.jaxpr, "cpu")


def test_a_kernel_without_a_formula_is_refused():
    with pytest.raises(ValueError, match="no formula"):
        flops.kernel("other_kernel", [(1, 2, 3)])


def test_the_backward_pass_of_attention_is_five_products_of_which_two_are_narrow():
    q = jax.ShapeDtypeStruct((1, 512, 1, 128), jnp.bfloat16)
    total = lambda q, k, v: jnp.sum(kernels.attention(q, k, v)).astype(jnp.float32)  # noqa: E731
    found = flops.count(jax.make_jaxpr(jax.grad(total, (0, 1, 2)))(q, q, q).jaxpr, "tpu")
    product = 2 * 512 * 512 * 128
    rest = 2 * 512 * 128  # sum of gradient times result, row by row
    assert found.total == 7 * product + rest
    assert found.narrow == 3 * product + rest


def test_a_policy_that_keeps_result_and_sums_runs_the_forward_kernel_once():
    # Heads of 128: of two products of a forward kernel the scores are narrow, and little else is.
    kept, again, never = (
        gradient(dataclasses.replace(CONFIG, heads=4, remat=name), "tpu").narrow
        for name in ("attention", "full", "none")
    )
    scores = 2 * CONFIG.layers * (T * H * W // 4) ** 2 * CONFIG.width
    assert again - kept == pytest.approx(scores, rel=0.01)
    assert kept < never + scores / 2  # contexts are read once more, no tokens


def test_kept_inputs_spare_their_projections():
    kept, more = (
        gradient(dataclasses.replace(CONFIG, remat=name), "tpu")
        for name in ("attention", "attention_inputs")
    )
    projections = 2 * CONFIG.layers * (T * H * W // 4) * CONFIG.width**2
    assert kept.total - more.total >= projections  # of the values at the least
