"""Lengths, normalisation and the phoneme head of the speech encoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.models import wav2vec2

CFG = wav2vec2.Config(
    channels=8, width=16, layers=1, heads=2, mlp_width=16,
    position_kernel=5, position_groups=2, phonemes=7,
)  # fmt: skip


@functools.cache
def params():
    return jax.jit(wav2vec2.init, static_argnums=1)(jax.random.key(0), CFG)


@pytest.mark.parametrize(
    ("samples", "rows"), [(16000, 49), (22956, 71), (56347, 175), (400, 1), (399, 0), (3, 0)]
)
def test_fifty_rows_a_second(samples, rows):
    assert wav2vec2.feature_length(samples) == rows


@pytest.mark.parametrize("samples", [400, 719, 720, 1000])
def test_the_network_gives_as_many_rows_as_the_formula_says(samples):
    def run(tree):
        features = wav2vec2.encode(tree, CFG, jnp.ones((2, samples)))
        return features, wav2vec2.phoneme_logits(tree, CFG, features)

    features, logits = jax.eval_shape(run, params())
    assert features.shape == (2, wav2vec2.feature_length(samples), CFG.width)
    assert logits.shape == (*features.shape[:2], CFG.phonemes)


def test_loudness_and_offset_do_not_matter_and_silence_stays_finite():
    wave = jnp.asarray(np.random.default_rng(0).normal(size=(1, 500)).astype(np.float32))
    np.testing.assert_allclose(
        wav2vec2.normalise_waveform(wave * 0.3 + 0.1), wav2vec2.normalise_waveform(wave), atol=1e-4
    )
    assert not wav2vec2.normalise_waveform(jnp.zeros((1, 500))).any()


def test_a_sample_too_short_for_one_row_is_refused():
    with pytest.raises(UsageError, match="speech: 399 samples; expected at least 400"):
        wav2vec2.encode(params(), CFG, jnp.zeros((1, 399)))
