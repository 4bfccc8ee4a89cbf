"""Exported folders as diffusers and transformers open them: by config.json, with every tensor."""

import dataclasses
import functools
from pathlib import Path

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from ft_jax.convert import counterpart, export, folder, formats
from ft_jax.convert.torch_addon import fantasytalking_diffusers as addon
from ft_jax.models import clip
from tests.convert import published
from tests.models import small
from tests.sampling import tiny_system

UNREAD = "masked_spec_embed"  # for pretraining


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("umt5_hf", "UMT5EncoderModel"),
        ("clip_hf", "CLIPVisionModelWithProjection"),
        ("wav2vec2", "Wav2Vec2Model"),
        ("wav2vec2_weight_g", "Wav2Vec2Model"),
        ("wav2vec2", "HubertModel"),
    ],
)
def test_transformers_opens_a_folder_with_every_tensor_in_its_place(name, model, tmp_path: Path):
    out = published.write(name, tmp_path / "out", 20_000)
    made, info = getattr(transformers, model).from_pretrained(out, output_loading_info=True)
    assert [k for k in info["missing_keys"] if UNREAD not in k] == []
    assert list(info["unexpected_keys"]) == list(info["mismatched_keys"]) == []
    (files,) = folder.open_all(out)
    state = {key.removeprefix("vision_model."): x for key, x in made.state_dict().items()}
    same = [key for key in files.tensors if key in state]
    # All but the positional convolution, whose norm has two spellings.
    assert len(same) >= len(files.tensors) - 2
    for key in same:
        np.testing.assert_array_equal(state[key], np.asarray(files.tensors[key]))


def opened(model, out: Path):
    """As `from_pretrained`, which would need another package, and demanding every tensor."""
    made = model.from_config(model.load_config(out))
    (files,) = folder.open_all(out)
    tensors = {key: torch.tensor(np.asarray(x)) for key, x in files.tensors.items()}
    made.load_state_dict(tensors, strict=True)
    return made.eval()


def test_diffusers_opens_the_codec_as_it_is_meant(tmp_path: Path):
    out = published.write("vae_diffusers", tmp_path / "out", 20_000)
    made, cfg = opened(diffusers.AutoencoderKLWan, out), published.system().codec
    assert tuple(made.config.latents_mean) == cfg.mean
    assert tuple(made.config.latents_std) == cfg.std
    assert made.config.scale_factor_spatial == cfg.space_factor
    assert made.config.scale_factor_temporal == cfg.time_factor


def test_an_exported_transformer_runs_there_as_here(tmp_path: Path):
    cfg, params, out = small.with_dit(text_tokens=512), small.params(), tmp_path / "out"
    system = dataclasses.replace(published.system(), denoiser=cfg)
    export.write(formats.named("wan_diffusers"), system, {"denoiser": params}, out, 20_000)
    made = opened(diffusers.WanTransformer3DModel, out)
    addon.exact(made, cfg.dit.text_tokens)
    latents, sigma, conditions = small.inputs()
    bare = conditions.replace(audio_features=None, identity=None, expression=None, body=None)
    ours = small.apply(params, cfg, latents, sigma, bare)
    there = counterpart.Counterpart(cfg, made, None)
    theirs = counterpart.velocity(there, latents, sigma, bare, "clip", small.FRAMES)
    np.testing.assert_allclose(theirs, ours, atol=3e-5)
    assert np.abs(ours).max() > 1


def test_a_tower_without_its_last_layer_keeps_the_numbers_of_the_others(tmp_path: Path):
    image = dataclasses.replace(published.system().image, projection=0)
    system = dataclasses.replace(published.system(), image=image)
    params = {"image": tiny_system.random_params(functools.partial(clip.init, cfg=image))}
    export.write(formats.named("clip_hf"), system, params, tmp_path / "out", 10**9)
    made, info = transformers.CLIPVisionModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    last = f"layers.{image.layers - 1}."
    assert info["missing_keys"]
    assert [k for k in info["missing_keys"] if last not in k and "post_layernorm" not in k] == []
    picture = np.random.default_rng(0).standard_normal((1, image.pixels, image.pixels, 3))
    picture = picture.astype(np.float32)
    with torch.no_grad():
        there = made(torch.tensor(picture).movedim(-1, 1), output_hidden_states=True)
    ours = clip.encode(params["image"], image, jnp.asarray(picture))
    np.testing.assert_allclose(there.hidden_states[-2], ours, atol=2e-5)
