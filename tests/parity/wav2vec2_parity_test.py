"""The speech encoder against transformers' Wav2Vec2Model and HubertModel on random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
)

from ft_jax.convert import table
from ft_jax.convert import wav2vec2 as tables
from ft_jax.models import wav2vec2

CFG = wav2vec2.Config(
    channels=24, width=32, layers=2, heads=4, mlp_width=48, position_kernel=16, position_groups=4
)


MODELS = {"wav2vec2": (Wav2Vec2Model, Wav2Vec2Config), "hubert": (HubertModel, HubertConfig)}


@functools.cache
def theirs(name):
    model, config = MODELS[name]
    torch.manual_seed(0)
    made = model(
        config(
            hidden_size=CFG.width,
            num_hidden_layers=CFG.layers,
            num_attention_heads=CFG.heads,
            intermediate_size=CFG.mlp_width,
            conv_dim=[CFG.channels] * 7,
            num_conv_pos_embeddings=CFG.position_kernel,
            num_conv_pos_embedding_groups=CFG.position_groups,
        )
    ).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    return made


def ours(name, spelling):
    """Our parameters from a file in which the weight norm is spelt in the given way."""
    tensors = {key: value.numpy() for key, value in theirs(name).state_dict().items()}
    for there, here in zip(tables.SPELLINGS[0], tables.SPELLINGS[spelling], strict=True):
        tensors = {key.replace(there, here): value for key, value in tensors.items()}
    assert sum(key.endswith(tables.SPELLINGS[spelling]) for key in tensors) == 2
    abstract = jax.eval_shape(functools.partial(wav2vec2.init, cfg=CFG), jax.random.key(0))
    params = table.to_params(tables.WAV2VEC2, tables.fold(tensors), abstract)
    return jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize(
    ("name", "samples", "spelling"),
    [
        ("wav2vec2", 400, 0),
        ("wav2vec2", 5600, 1),
        ("wav2vec2", 8119, 0),
        ("hubert", 5600, 0),
        ("hubert", 7001, 1),
    ],
)
def test_last_hidden_state_equals_transformers(name, samples, spelling):
    waveform = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(name)(torch.from_numpy(waveform)).last_hidden_state.numpy()
    encode = jax.jit(wav2vec2.encode, static_argnums=1)
    found = encode(ours(name, spelling), CFG, jnp.asarray(waveform))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_normalisation_equals_the_feature_extractor():
    waveform = 0.1 + 0.3 * np.random.default_rng(0).normal(size=5600).astype(np.float32)
    extract = Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True)
    expected = extract(waveform, sampling_rate=16000).input_values[0]
    found = wav2vec2.normalise_waveform(jnp.asarray(waveform[None]))[0]
    np.testing.assert_allclose(found, expected, atol=2e-6)
