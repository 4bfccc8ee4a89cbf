"""Names and shapes at the released sizes against the libraries' own models, without memory."""

import diffusers
import pytest
import torch
import transformers

from ft_jax.convert import formats
from tests.convert import released_test as released

UNREAD = {
    "masked_spec_embed",  # for pretraining
    "encoder.embed_tokens.weight",  # another name of shared.weight
    "embeddings.position_ids",  # numbers, not stored
}


def of_transformers(name: str, config: str):
    def make(settings):
        known = {key: value for key, value in settings.items() if key != "model_type"}
        return getattr(transformers, name)(getattr(transformers, config)(**known))

    return make


LIBRARY = {
    "wan_diffusers": lambda settings: diffusers.WanTransformer3DModel.from_config(settings),
    "vae_diffusers": lambda settings: diffusers.AutoencoderKLWan.from_config(settings),
    "umt5_hf": of_transformers("UMT5EncoderModel", "UMT5Config"),
    "clip_hf": of_transformers("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    "wav2vec2": of_transformers("Wav2Vec2Model", "Wav2Vec2Config"),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_a_model_built_by_our_settings_has_our_keys_and_shapes(name: str):
    settings = formats.named(name).settings
    assert settings is not None
    with torch.device("meta"):
        model = LIBRARY[name](dict(settings(released.system())))
    state = {
        key.removeprefix("vision_model."): tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
    }
    shapes = released.layout(name)
    assert {key: state.get(key) for key in shapes} == shapes
    assert state.keys() - shapes.keys() <= UNREAD
