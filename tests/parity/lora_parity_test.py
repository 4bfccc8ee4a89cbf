"""An exported LoRA in diffusers' transformer, by diffusers' own reading of its names."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from diffusers.loaders import lora_conversion_utils
from safetensors.torch import load_file

from ft_jax.convert import counterpart, export, formats
from ft_jax.models import fantasy, lora
from tests.convert import published
from tests.models import small

# Every linear layer of a block, and a scale that is no power of two.
LORA = lora.Config(3, 4.5, ".*")
BASE = fantasy.Config(small.DIT, None, None, None)
CONFIG = dataclasses.replace(BASE, lora=LORA)


def exported(tmp_path: Path) -> dict[str, torch.Tensor]:
    """The tensors of the file."""
    system = dataclasses.replace(published.system(), denoiser=CONFIG)
    params, out = {"denoiser": small.params(CONFIG)}, tmp_path / "lora.safetensors"
    export.write(formats.named("lora_comfyui"), system, params, out, 10**9)
    return load_file(out)


def test_an_exported_lora_gives_in_diffusers_what_it_gives_here(tmp_path: Path):
    params, (latents, sigma, conditions) = small.params(CONFIG), small.inputs()
    built = counterpart.build({"dit": params["dit"]}, BASE)
    bare = counterpart.velocity(built, latents, sigma, conditions, "clip", small.FRAMES)
    # What `load_lora_weights` does before it hands the matrices to peft; alpha is in them then.
    read = lora_conversion_utils._convert_non_diffusers_wan_lora_to_diffusers(exported(tmp_path))
    names = {key.rpartition(".lora_")[0] for key in read}
    assert len(names) == 2 * 12 and len(read) == 2 * len(names)
    for name in names:
        layer = built.transformer.get_submodule(name.removeprefix("transformer."))
        with torch.no_grad():
            layer.weight += read[f"{name}.lora_B.weight"] @ read[f"{name}.lora_A.weight"]
    theirs = counterpart.velocity(built, latents, sigma, conditions, "clip", small.FRAMES)
    ours = small.apply(params, CONFIG, latents, sigma, conditions)
    np.testing.assert_allclose(theirs, ours, atol=3e-5)
    assert np.abs(theirs - bare).max() > 0.1


def test_a_model_with_low_rank_changes_has_a_counterpart():
    params, (latents, sigma, conditions) = small.params(CONFIG), small.inputs()
    built = counterpart.build(params, CONFIG)
    theirs = counterpart.velocity(built, latents, sigma, conditions, "clip", small.FRAMES)
    ours = small.apply(params, CONFIG, latents, sigma, conditions)
    np.testing.assert_allclose(theirs, ours, atol=3e-5)
