"""An exported denoiser in diffusers, with the file that ships beside it, against ours."""

import dataclasses
import functools
import importlib.util
import itertools

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import Timesteps
from safetensors.numpy import save_file

from ft_jax.convert import counterpart
from ft_jax.convert.torch_addon import FILE
from ft_jax.convert.torch_addon import fantasytalking_diffusers as addon
from ft_jax.models import audio
from tests.models import small

FULL = small.with_dit(text_tokens=512)
# Every setting that a file's metadata carries, and the shape that says where motion is added.
ALTERNATIVES = {
    "clip": {"audio": {"clip": "windows"}},
    "frame": {
        "audio": {"padding": "heard", "silence": "zeros"},
        "identity": {"weight": 0.9, "projected": False, "heads": 3, "depth": 2},
        "motion": {"scale": 3.0, "adds_to": "modulation"},
    },
}


def given():
    latents, sigma, conditions = small.inputs()
    conditions = conditions.replace(
        audio_scale=np.array([1.0, 0.4], np.float32),
        identity_scale=np.array([0.7, 1.0], np.float32),
        image_scale=np.array([1.0, 0.0], np.float32),
    )
    return latents, sigma, conditions


@functools.cache
def theirs(cfg):
    torch.manual_seed(0)
    return counterpart.build(small.params(cfg), cfg)


def compare(cfg, mode, conditions=None, inputs=None):
    latents, sigma, default = inputs or given()
    conditions = default if conditions is None else conditions
    windows = audio.windows(cfg.audio, mode, small.TOKENS, small.FRAMES) if cfg.audio else None
    ours = small.apply(small.params(cfg), cfg, latents, sigma, conditions, windows)
    found = counterpart.velocity(theirs(cfg), latents, sigma, conditions, mode, small.FRAMES)
    np.testing.assert_allclose(found, ours, atol=3e-5)
    return found


@pytest.mark.parametrize("mode", ["clip", "frame"])
def test_all_branches_together_give_there_what_they_give_here(mode):
    assert np.abs(compare(FULL, mode)).max() > 1


def only(conditions, name):
    """The conditions of one branch."""
    silent = {"audio": "audio_features", "identity": "identity", "motion": "expression"}
    return conditions.replace(**{field: None for key, field in silent.items() if key != name})


@pytest.mark.parametrize("name", ["audio", "identity", "motion"])
def test_each_branch_alone_gives_there_what_it_gives_here(name):
    conditions = given()[2]
    silent = compare(FULL, "frame", only(conditions, "none"))
    heard = compare(FULL, "frame", only(conditions, name))
    assert np.abs(heard - silent).max() > 1e-3


def test_the_first_rows_of_a_batch_may_hear_alone():
    latents, sigma, conditions = given()
    conditions = conditions.replace(
        audio_features=conditions.audio_features[:1], audio_scale=conditions.audio_scale[:1]
    )
    compare(FULL, "frame", conditions, (latents, sigma, conditions))


@pytest.mark.parametrize("mode", ALTERNATIVES)
def test_settings_travel_in_the_metadata_of_the_file(mode):
    own = {
        branch: dataclasses.replace(getattr(FULL, branch), **changes)
        for branch, changes in ALTERNATIVES[mode].items()
    }
    compare(dataclasses.replace(FULL, **own), mode)


def test_a_model_of_fewer_text_rows_gives_there_what_it_gives_here():
    compare(small.CONFIG, "frame")


def test_windows_are_those_of_the_package():
    for tokens, frames in itertools.product([1, 2, 31, 175, 500], [1, 5, 17, 33, 81, 201]):
        ours, there = audio.frame_windows(tokens, frames), addon.frame_windows(tokens, frames)
        np.testing.assert_array_equal(there.index, ours.index)
        np.testing.assert_array_equal(there.mask, ours.mask)


def test_a_frame_that_hears_nothing_gets_nothing():
    query, keys = torch.randn(1, 4, 1, 2), torch.randn(1, 3, 1, 2)
    mask = torch.tensor([[True], [False]])
    windows = addon.Windows(torch.zeros(2, 1, dtype=torch.int64), mask)
    out = addon.attend(query, keys, keys, windows)
    assert not out[:, 2:].any() and out[:, :2].all()


def torch_inputs(cfg):
    torch.manual_seed(1)
    normal = torch.randn
    full = normal(2, 2 * cfg.latent_channels + 4, 5, 4, 6)
    return full, torch.tensor([300.0, 800.0]), normal(2, 512, cfg.text_width), normal(2, 3, 14)


def hearing():
    conditions = given()[2]
    tensor = lambda x: torch.tensor(np.asarray(x))  # noqa: E731
    return {
        "audio": tensor(conditions.audio_features),
        "frames": small.FRAMES,
        "identity": tensor(conditions.identity),
        "motion": (tensor(conditions.expression), tensor(conditions.body)),
    }


def bare():
    """Diffusers' transformer with the random base, and nothing of ours on it."""
    cfg = dataclasses.replace(FULL, audio=None, identity=None, motion=None)
    made = counterpart.build(small.params(FULL), cfg).transformer
    # `build` makes the sinusoid exact; this is diffusers' own again.
    made.condition_embedder.timesteps_proj = Timesteps(FULL.dit.frequency_width, True, 0)
    return made


def test_zero_branches_and_silence_change_no_bit_of_diffusers_output(tmp_path):
    fresh, cfg = small.fresh(), small.CONFIG
    tensors, metadata = counterpart.branch_tensors({**small.params(), **fresh}, cfg)
    save_file(tensors, tmp_path / "fresh.safetensors", metadata)
    transformer, inputs = bare(), torch_inputs(FULL.dit)
    with torch.no_grad():
        expected = transformer(*inputs).sample
        branches = addon.attach(transformer, tmp_path / "fresh.safetensors")
        with branches.hears(**hearing()):
            assert torch.equal(transformer(*inputs).sample, expected)
        tensors, metadata = counterpart.branch_tensors(small.params(), cfg)
        save_file(tensors, tmp_path / "drawn.safetensors", metadata)
        branches = addon.attach(transformer, tmp_path / "drawn.safetensors")
        with branches.hears(**hearing()):
            assert not torch.allclose(transformer(*inputs).sample, expected)
        assert torch.equal(transformer(*inputs).sample, expected)


def test_every_wrong_key_is_named_in_one_error_and_nothing_is_attached(tmp_path):
    tensors, metadata = counterpart.branch_tensors(small.params(), small.CONFIG)
    lost = "audio_processor.blocks.1.cross_attn.processor.v_proj.weight"
    del tensors[lost], tensors["motion_model.norm.bias"]
    tensors["audio_processor.blocks.1.cross_attn.procesor.v_proj.weight"] = np.zeros(1)
    save_file(tensors, tmp_path / "wrong.safetensors", metadata)
    transformer = bare()
    with pytest.raises(ValueError) as caught:
        addon.attach(transformer, tmp_path / "wrong.safetensors")
    said = str(caught.value)
    assert "wrong.safetensors" in said and "2 missing: " in said and "1 unexpected: " in said
    assert lost in said and "motion_model.norm.bias" in said and "procesor.v_proj" in said
    assert not transformer.blocks[0].attn2.norm_q._forward_hooks


def test_a_misshapen_key_and_a_file_without_branches_are_refused(tmp_path):
    tensors, metadata = counterpart.branch_tensors(small.params(), small.CONFIG)
    key = "identity_processor.blocks.0.cross_attn.processor.k_proj.weight"
    save_file({**tensors, key: tensors[key][:-1]}, tmp_path / "short.safetensors", metadata)
    with pytest.raises(ValueError, match=r"k_proj\.weight \[23, 16\] instead of \[24, 16\]"):
        addon.attach(bare(), tmp_path / "short.safetensors")
    save_file({"odd": np.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match="1 unexpected: odd"):
        addon.attach(bare(), tmp_path / "odd.safetensors")


def test_keys_and_values_take_the_type_of_the_transformer(tmp_path):
    tensors, metadata = counterpart.branch_tensors(small.params(), small.CONFIG)
    save_file(tensors, tmp_path / "all.safetensors", metadata)
    transformer = bare().to(torch.bfloat16)
    branches = addon.attach(transformer, tmp_path / "all.safetensors")
    assert branches.audio_processor.state_dict().popitem()[1].dtype == torch.bfloat16
    assert branches.identity_model.queries.dtype == torch.float32
    inputs = [x.bfloat16() for x in torch_inputs(FULL.dit)]
    with torch.no_grad(), branches.hears(**hearing()):
        out = transformer(*inputs).sample
    assert out.dtype == torch.bfloat16 and torch.isfinite(out).all()


def test_the_file_stands_alone(tmp_path):
    """It runs from a copy outside of the package, as a user runs it."""
    copy = tmp_path / FILE.name
    copy.write_bytes(FILE.read_bytes())
    spec = importlib.util.spec_from_file_location("copied_addon", copy)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.attach is not addon.attach
    assert module.frame_windows(31, 17).mask.shape == (5, 15)
