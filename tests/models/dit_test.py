"""The base model: token order, execution forms that agree, released sizes, errors."""

import dataclasses
import functools
import hashlib
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import models
from ft_jax.config import build
from ft_jax.convert import table, wan_dit
from ft_jax.errors import UsageError
from ft_jax.models import dit, fantasy
from tests.models import small


def test_tokens_are_space_major():
    frames, rows, columns = np.meshgrid(np.arange(3), np.arange(4), np.arange(2), indexing="ij")
    place = (rows * 2 + columns) * 3 + frames
    tokens = dit.patchify(jnp.asarray(place[None, ..., None], jnp.float32), (1, 1, 1))
    np.testing.assert_array_equal(tokens[0, :, 0], np.arange(24))


def test_unpatchify_restores_what_patchify_took_apart():
    patch = (3, 2, 1)
    video = jax.random.normal(jax.random.key(0), (2, 6, 4, 5, 7))
    tokens = dit.patchify(video, patch)
    lanes = tokens.reshape(2, -1, 7, *patch)  # in: channel slowest; out: channel fastest
    back = dit.unpatchify(jnp.moveaxis(lanes, 2, -1).reshape(tokens.shape), (2, 2, 5), patch)
    np.testing.assert_array_equal(back, video)


@functools.cache
def _loss_and_gradient(cfg):
    latents, sigma, conditions = small.inputs()

    @jax.jit
    def run(params, latents):
        out = fantasy.apply(params, cfg, latents, sigma, conditions)
        return jnp.sin(out).sum(), out

    grad, out = jax.grad(run, (0, 1), has_aux=True)(small.params(), latents)
    return out, grad


@pytest.mark.parametrize(
    "changes",
    [
        {"scan": False},
        {"remat": "full"},
        {"remat": "matmuls"},
        {"remat": "attention_inputs_offloaded"},
    ],
    ids=str,
)
def test_all_forms_of_execution_give_the_same_output_and_gradient(changes):
    expected = _loss_and_gradient(small.CONFIG)
    found = _loss_and_gradient(small.with_dit(**changes))

    def compare(x, y):
        # Sums of products round in proportion to their terms, so a leaf's largest value counts.
        atol = 2e-6 * max(1.0, float(np.abs(y).max()))
        np.testing.assert_allclose(x, y, atol=atol, rtol=2e-5)

    jax.tree.map(compare, found, expected)


@pytest.mark.parametrize("remat", [policy for policy in dit.REMAT_POLICIES if policy != "none"])
def test_a_remat_policy_keeps_less_for_the_gradient(remat):
    latents, sigma, conditions = small.inputs(1)

    def kept(cfg):
        """Numbers that the forward pass leaves behind for the backward pass."""
        run = lambda params: fantasy.apply(params, cfg, latents, sigma, conditions)  # noqa: E731
        _, backward = jax.eval_shape(lambda params: jax.vjp(run, params), small.params())
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(backward))

    everything, some = kept(small.CONFIG), kept(small.with_dit(remat=remat))
    nothing = kept(small.with_dit(remat="full"))
    assert nothing <= some < 0.8 * everything and (some == nothing) == (remat == "full")


@pytest.mark.parametrize(
    ("precision", "residual", "carried"),
    [
        ("parity", "bfloat16", "float32"),  # parity is float32 throughout
        ("bf16", "float32", "float32"),
        ("bf16", "bfloat16", "bfloat16"),
    ],
)
def test_the_residual_stream_has_the_type_that_is_set(precision, residual, carried):
    latents, sigma, conditions = small.inputs(1)
    cfg = small.with_dit(precision=precision, residual=residual)
    run = functools.partial(fantasy.apply, small.params(), cfg)
    text = str(jax.make_jaxpr(run)(latents, sigma, conditions))
    types = re.findall(r"\w+:(\w+)\[1,30,24\] = scan\[", text)
    assert types == [{"float32": "f32", "bfloat16": "bf16"}[carried]]


def test_every_parameter_and_input_matters():
    _, grad = _loss_and_gradient(small.CONFIG)
    dead = [path for path, leaf in table.flatten(grad[0]).items() if not np.abs(leaf).max() > 0]
    # A bias on all keys shifts every score of a query alike, which softmax does not see.
    assert all(path.endswith("self_attention/key/bias") for path in dead), dead
    assert np.abs(grad[1]).min() > 0


def test_the_mask_marks_the_first_latent_frame():
    latents, sigma, conditions = small.inputs()
    given = conditions.condition_latents
    mask = jnp.zeros((*given.shape[:-1], dit.MASK_CHANNELS)).at[:, 0].set(1)
    own = conditions.replace(condition_latents=jnp.concatenate([mask, given], axis=-1))
    other = conditions.replace(condition_latents=jnp.concatenate([1 - mask, given], axis=-1))
    expected = small.apply(small.params(), small.CONFIG, latents, sigma, conditions)
    found = small.apply(small.params(), small.CONFIG, latents, sigma, own)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    found = small.apply(small.params(), small.CONFIG, latents, sigma, other)
    assert np.abs(found - expected).max() > 1e-3


def test_short_prompts_are_filled_with_zero_rows_that_are_attended_to():
    latents, sigma, conditions = small.inputs()
    text = conditions.text_tokens
    filled = jnp.pad(text, ((0, 0), (0, small.DIT.text_tokens - text.shape[1]), (0, 0)))
    outputs = [
        small.apply(small.params(), cfg, latents, sigma, conditions.replace(text_tokens=tokens))
        for cfg, tokens in (
            (small.CONFIG, text),
            (small.CONFIG, filled),
            (small.with_dit(text_tokens=text.shape[1]), text),
        )
    ]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=2e-6)
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-4


def test_bf16_stays_near_float32():
    latents, sigma, conditions = small.inputs()
    exact = small.apply(small.params(), small.CONFIG, latents, sigma, conditions)
    for residual in ("float32", "bfloat16"):
        cfg = small.with_dit(precision="bf16", residual=residual)
        rough = small.apply(small.params(), cfg, latents, sigma, conditions)
        assert rough.dtype == jnp.float32
        error = np.abs(rough - exact).max() / np.abs(exact).max()
        assert 1e-5 < error < 0.05


RELEASED = {
    # system: tensors, parameters, sha256 of the sorted lines "key:shape" of the released file
    "wan_1_3b": (
        825,
        1_418_996_800,
        "fcc7f2bf240f8e0961eda4fedd2a6410719af1247005595323e3a9c312b61b2e",
    ),
    "wan_t2v_14b": (
        1095,
        14_288_491_584,
        "b7337f11caf859c0ad6ed2399e63cbc5d7fcf46ce92b1e8197567bf26e2e4a94",
    ),
    "wan_14b": (
        1303,
        16_394_878_784,
        "f78147526bdc56f928ddb05c106f4e26c2ea0901bac9de9fe75152cfc87d3d68",
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_sizes_have_exactly_the_released_tensors(name):
    tensors, count, digest = RELEASED[name]
    cfg = build(fantasy.Config, models.get_config(name).denoiser)
    tree = {"dit": fantasy.abstract_params(cfg)["dit"]}
    shapes = table.shapes(wan_dit.ORIGINAL, tree)
    lines = [f"{key}:{','.join(map(str, shape))}" for key, shape in sorted(shapes.items())]
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes.values()) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "half"}, "dit.precision: got 'half'"),
        ({"remat": "some"}, "dit.remat: got 'some'"),
        ({"residual": "float16"}, "dit.residual: got 'float16'"),
        ({"heads": 5}, "dit.heads: 5 does not divide"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(changes, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(small.DIT, **changes)


def test_latents_that_are_no_whole_patches_are_named():
    latents, sigma, conditions = small.inputs()
    with pytest.raises(UsageError, match="h is 3; expected a multiple of 2"):
        cut = conditions.replace(condition_latents=conditions.condition_latents[:, :, :3])
        jax.eval_shape(
            functools.partial(fantasy.apply, small.params(), small.CONFIG),
            latents[:, :, :3],
            sigma,
            cut,
        )
