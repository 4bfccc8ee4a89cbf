"""The assembled denoiser: branches that start as nothing, rows that hear, what is done once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.models import fantasy
from ft_jax.models.audio import frame_windows
from ft_jax.sharding.axes import PARAMETER_AXES
from ft_jax.sharding.constrain import shardings
from ft_jax.sharding.mesh import Config as MeshConfig
from ft_jax.sharding.mesh import make
from tests.models import small

WINDOWS = frame_windows(small.TOKENS, small.FRAMES)
BASE = dataclasses.replace(small.CONFIG, audio=None, identity=None, motion=None)


def _fresh():
    """Branches as they start, on a base that is not zero anywhere."""
    return {**small.fresh(), "dit": small.params()["dit"]}


@functools.cache
def _base():
    # Each operation on its own: in a larger program the compiler fuses, and rounds, differently.
    with jax.disable_jit():
        return fantasy.apply({"dit": small.params()["dit"]}, BASE, *small.inputs())


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["clip", "frame"])
def test_fresh_branches_leave_the_base_model_bit_for_bit(windows):
    with jax.disable_jit():
        found = fantasy.apply(_fresh(), small.CONFIG, *small.inputs(), windows)
    np.testing.assert_array_equal(found, _base())
    compiled = small.apply(_fresh(), small.CONFIG, *small.inputs(), windows)
    np.testing.assert_allclose(compiled, _base(), atol=5e-6)


def test_conditions_that_are_none_leave_the_base_model_bit_for_bit():
    latents, sigma, conditions = small.inputs()
    none = conditions.replace(audio_features=None, identity=None, expression=None)
    only_base = {"dit": small.params()["dit"]}
    with jax.disable_jit():
        found = fantasy.apply(only_base, small.CONFIG, latents, sigma, none)
    np.testing.assert_array_equal(found, _base())


def test_the_tree_splits_into_frozen_and_trained_at_the_top():
    tree = fantasy.abstract_params(small.CONFIG)
    assert set(tree) == {"dit", "audio", "identity", "motion"}
    assert set(fantasy.abstract_params(BASE)) == {"dit"}


def test_a_silent_sample_hears_nothing_and_its_neighbours_do():
    latents, sigma, conditions = small.inputs()
    none = conditions.replace(audio_features=None)
    half = conditions.replace(audio_scale=jnp.array([0.0, 1.0]))
    found = small.apply(small.params(), small.CONFIG, latents, sigma, half, WINDOWS)
    silent = small.apply(small.params(), small.CONFIG, latents, sigma, none)
    full = small.apply(small.params(), small.CONFIG, latents, sigma, conditions, WINDOWS)
    np.testing.assert_allclose(found[0], silent[0], atol=2e-6)
    np.testing.assert_allclose(found[1], full[1], atol=2e-6)
    assert np.abs(full - silent).max() > 1e-2


def test_a_dropped_picture_is_zero_tokens_and_keeps_the_first_frame():
    latents, sigma, conditions = small.inputs()
    dropped = conditions.replace(image_scale=jnp.zeros(2))
    zero = conditions.replace(image_tokens=jnp.zeros_like(conditions.image_tokens))
    np.testing.assert_array_equal(
        small.apply(small.params(), small.CONFIG, latents, sigma, dropped),
        small.apply(small.params(), small.CONFIG, latents, sigma, zero),
    )


def test_values_learn_first_and_keys_once_values_are_not_zero():
    latents, sigma, conditions = small.inputs()

    @jax.jit
    def grad(params):
        loss = lambda p: jnp.sin(fantasy.apply(p, small.CONFIG, latents, sigma, conditions)).sum()  # noqa: E731
        return jax.grad(loss)(params)

    moved = _fresh()
    moved["audio"] = {**moved["audio"], "value": small.params()["audio"]["value"]}
    for branch, is_moved in (("audio", True), ("identity", False)):
        first, second = grad(_fresh())[branch], grad(moved)[branch]
        assert np.any(first["value"]["kernel"]) and not np.any(first["key"]["kernel"])
        assert np.any(second["key"]["kernel"]) == is_moved
    assert np.any(grad(_fresh())["motion"]["output"]["kernel"])


@pytest.mark.parametrize("cache", [True, False])
def test_prepared_conditions_give_the_same_velocity(cache):
    latents, sigma, conditions = small.inputs()
    params = small.params()
    prepared = fantasy.prepare(params, small.CONFIG, conditions, WINDOWS, cache)
    found = jax.jit(lambda p: fantasy.denoise(params, small.CONFIG, latents, sigma, p))(prepared)
    expected = small.apply(params, small.CONFIG, latents, sigma, conditions, WINDOWS)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("branches", [2, 3])
def test_one_guidance_batch_equals_its_branches_one_by_one(branches):
    latents, sigma, conditions = small.inputs()
    negative = jnp.flip(conditions.text_tokens, -1)
    stacked = fantasy.for_guidance(conditions, negative if branches == 3 else None)
    assert stacked.audio_features.shape[0] == 2  # only these rows hear
    silent = conditions.replace(audio_features=None)
    separate = [conditions, silent, silent.replace(text_tokens=negative)][:branches]
    expected = [
        small.apply(small.params(), small.CONFIG, latents, sigma, each, WINDOWS)
        for each in separate
    ]
    found = small.apply(
        small.params(),
        small.CONFIG,
        jnp.concatenate([latents] * branches),
        jnp.concatenate([sigma] * branches),
        stacked,
        WINDOWS,
    )
    np.testing.assert_allclose(found, jnp.concatenate(expected), atol=2e-6)


@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["clip", "frame"])
def test_rows_that_hear_no_speech_do_not_compute_it(windows):
    def operations(rows, hearing):
        latents, sigma, conditions = small.inputs(rows)
        features = conditions.audio_features[:hearing] if hearing else None
        given = conditions.replace(audio_features=features, audio_scale=None)
        run = jax.jit(lambda *x: fantasy.apply(small.params(), small.CONFIG, *x, windows))
        return run.lower(latents, sigma, given).cost_analysis()["flops"]

    alone = operations(2, 2) - operations(2, 0)
    assert alone > 0
    assert operations(6, 2) - operations(6, 0) == alone


def test_silence_of_zeros_is_heard_in_training_and_in_every_branch_of_guidance():
    latents, sigma, conditions = small.inputs()
    speech = dataclasses.replace(small.CONFIG.audio, silence="zeros")
    cfg = dataclasses.replace(small.CONFIG, audio=speech)

    def run(given, copies=1):
        rows = jnp.concatenate([latents] * copies), jnp.concatenate([sigma] * copies)
        return small.apply(small.params(), cfg, *rows, given, WINDOWS)

    zeros = conditions.replace(audio_features=jnp.zeros_like(conditions.audio_features))
    dropped = conditions.replace(audio_scale=jnp.zeros(2))
    np.testing.assert_allclose(run(dropped), run(zeros), atol=2e-6)
    muted = small.apply(small.params(), small.CONFIG, latents, sigma, dropped, WINDOWS)
    assert float(jnp.abs(run(dropped) - muted).max()) > 1e-3
    stacked = fantasy.for_guidance(conditions, conditions.text_tokens, silence="zeros")
    expected = jnp.concatenate([run(conditions), run(zeros), run(zeros)])
    np.testing.assert_allclose(run(stacked, 3), expected, atol=2e-6)


def test_the_unconditional_branch_may_know_neither_face_nor_intensities():
    _, _, conditions = small.inputs()
    rows = len(conditions.text_tokens)
    stacked = fantasy.for_guidance(conditions, conditions.text_tokens, False, False)
    np.testing.assert_array_equal(stacked.identity_scale, [1.0] * 2 * rows + [0.0] * rows)
    for name in ("expression", "body"):
        given = getattr(conditions, name)
        wanted = jnp.concatenate([given, given, jnp.full_like(given, 0.5)])
        np.testing.assert_array_equal(getattr(stacked, name), wanted)


def test_every_parameter_names_its_axes():
    mesh = make(MeshConfig(data=1), jax.devices()[:1])
    tree = fantasy.abstract_params(small.CONFIG)
    found = shardings(tree, mesh, "fsdp")  # raises on a name that is not in the list
    assert jax.tree.structure(found) == jax.tree.structure(
        jax.tree.map(lambda x: 0, tree, is_leaf=lambda x: hasattr(x, "names"))
    )
    boxes = jax.tree.leaves(tree, is_leaf=lambda x: hasattr(x, "names"))
    for box in boxes:
        assert hasattr(box, "names") and len(box.names) == len(box.value.shape)
        assert set(box.names) <= set(PARAMETER_AXES) | {None}
