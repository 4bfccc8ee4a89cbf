"""The speech encoder against transformers' Wav2Vec2Model on random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from ft_jax.convert import table
from ft_jax.convert import wav2vec2 as tables
from ft_jax.models import wav2vec2

CFG = wav2vec2.Config(
    channels=24, width=32, layers=2, heads=4, mlp_width=48, position_kernel=16, position_groups=4
)


@functools.cache
def both():
    torch.manual_seed(0)
    model = Wav2Vec2Model(
        Wav2Vec2Config(
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
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    abstract = jax.eval_shape(functools.partial(wav2vec2.init, cfg=CFG), jax.random.key(0))
    params = table.to_params(tables.WAV2VEC2, tables.fold(tensors), abstract)
    return model, jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize("samples", [400, 5600, 8119])
def test_last_hidden_state_equals_transformers(samples):
    model, params = both()
    waveform = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(waveform)).last_hidden_state.numpy()
    ours = jax.jit(wav2vec2.encode, static_argnums=1)(params, CFG, jnp.asarray(waveform))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_normalisation_equals_the_feature_extractor():
    waveform = 0.1 + 0.3 * np.random.default_rng(0).normal(size=5600).astype(np.float32)
    extract = Wav2Vec2FeatureExtractor(return_attention_mask=False, do_normalize=True)
    theirs = extract(waveform, sampling_rate=16000).input_values[0]
    ours = wav2vec2.normalise_waveform(jnp.asarray(waveform[None]))[0]
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
