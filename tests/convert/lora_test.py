"""Low-rank changes as a file of ComfyUI's names: what is in it, what is taken from it, what not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ft_jax.checkpoints.tree import flatten
from ft_jax.convert import export, folder, formats, lora
from ft_jax.errors import UsageError
from ft_jax.models import lora as low_rank
from tests.convert import published

QUERY = "diffusion_model.blocks.1.self_attn.q"


def written(tmp_path: Path) -> dict[str, np.ndarray]:
    return load_file(published.write("lora_comfyui", tmp_path / "lora.safetensors"))


def changed(tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> folder.Weights:
    tensors = written(tmp_path)
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return folder.open_all(tmp_path / "changed.safetensors")[0]


def read(found: folder.Weights) -> dict[str, Any]:
    """As the command does: settings of the file, then its tensors."""
    return formats.leaves(found, lora.adopted(published.system(), found.tensors), None)[1]


def test_the_file_has_the_names_and_layouts_that_comfyui_knows(tmp_path: Path):
    tensors = written(tmp_path)
    layers = [
        f"diffusion_model.blocks.{n}.{name}"
        for n in range(2)
        for name in ("ffn.0", "self_attn.o", "self_attn.q")
    ]
    leaves = ("alpha", "lora_A.weight", "lora_B.weight")
    assert sorted(tensors) == [f"{layer}.{leaf}" for layer in layers for leaf in leaves]
    assert tensors["diffusion_model.blocks.0.ffn.0.lora_A.weight"].shape == (2, 24)
    assert tensors["diffusion_model.blocks.0.ffn.0.lora_B.weight"].shape == (32, 2)
    assert tensors[f"{QUERY}.alpha"] == np.float32(3.0) and tensors[f"{QUERY}.alpha"].shape == ()
    with safe_open(tmp_path / "lora.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt", "lora.rank": "2", "lora.alpha": "3.0"}


def test_rank_alpha_and_targets_are_the_files(tmp_path: Path):
    found = folder.open_all(published.write("lora_comfyui", tmp_path / "lora.safetensors"))[0]
    own = lora.adopted(published.system(), found.tensors).denoiser.lora
    names = "blocks/mlp/hidden|blocks/self_attention/output|blocks/self_attention/query"
    assert own == low_rank.Config(2, 3.0, names)
    plain = folder.open_all(published.write("motion", tmp_path / "motion.safetensors"))[0]
    assert lora.adopted(published.system(), plain.tensors) is published.system()


def test_without_alpha_the_scale_is_one(tmp_path: Path):
    def change(tensors):
        for key in [key for key in tensors if key.endswith("alpha")]:
            del tensors[key]

    found = changed(tmp_path, change)
    own = lora.adopted(published.system(), found.tensors).denoiser.lora
    assert own is not None and own.scale == 1.0
    given = flatten(published.params("float32", published.adapted()))
    leaves = read(found)
    assert len(leaves) == 6
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, given[path], err_msg=path)


def test_the_prefix_may_be_missing(tmp_path: Path):
    tensors = {key.partition(".")[2]: x for key, x in written(tmp_path).items()}
    save_file(tensors, tmp_path / "bare.safetensors")
    assert len(read(folder.open_all(tmp_path / "bare.safetensors")[0])) == 6


def test_all_wrong_keys_are_listed(tmp_path: Path):
    def change(tensors):
        tensors["extra"] = tensors.pop(f"{QUERY}.lora_B.weight")
        tensors[f"{QUERY}.lora_A.weight"] = np.zeros((3, 24), np.float32)

    found = changed(tmp_path, change)
    with pytest.raises(UsageError) as caught:
        read(found)
    assert str(caught.value) == (
        f"{tmp_path}/changed.safetensors: does not hold the 18 tensors of LoRA of a Wan DiT, "
        "ComfyUI names; 1 missing: blocks.1.self_attn.q.lora_B.weight; 1 unexpected: extra; "
        "1 of another shape: blocks.1.self_attn.q.lora_A.weight [3, 24] instead of [2, 24]"
    )


def test_layers_of_another_alpha_are_refused(tmp_path: Path):
    def change(tensors):
        tensors[f"{QUERY}.alpha"] = np.asarray(8.0, np.float32)

    found = changed(tmp_path, change)
    expected = r"blocks\.1\.self_attn\.q\.alpha is 8; expected 3, as elsewhere"
    with pytest.raises(UsageError, match=expected):
        read(found)


def test_a_whole_model_is_written_with_its_changes_merged(tmp_path: Path):
    made = published.adapted()
    params = published.params("bfloat16", made)
    export.write(formats.named("wan_comfyui"), made, params, tmp_path / "dit.safetensors", 10**9)
    (found,) = folder.open_all(tmp_path / "dit.safetensors")
    _, leaves = formats.leaves(found, published.system(), None)
    merged = low_rank.merged(published.LORA, params["denoiser"])["dit"]
    for path, leaf in flatten({"denoiser": {"dit": merged}}).items():
        np.testing.assert_array_equal(leaves[path], np.asarray(leaf), err_msg=path, strict=True)
    kernel = "denoiser/dit/blocks/mlp/hidden/kernel"
    assert np.any(np.asarray(leaves[kernel]) != flatten(params)[kernel])


def test_weights_that_lack_the_changes_they_speak_of_are_refused():
    made, params = published.adapted(), published.params()
    with pytest.raises(UsageError, match="denoiser/lora: no parameters"):
        formats.tensors(formats.named("wan"), made, params)
    with pytest.raises(UsageError, match="--format=lora_comfyui: the weights have no part"):
        formats.tensors(formats.named("lora_comfyui"), published.system(), params)


def test_every_released_layer_of_a_block_has_a_name():
    base = published.system().denoiser
    cfg = dataclasses.replace(published.LORA, targets=".*")
    made = dataclasses.replace(published.system(), denoiser=dataclasses.replace(base, lora=cfg))
    keys = formats.table.shapes(lora.COMFYUI, formats.abstract(made, "denoiser/lora"))
    names = {key.split(".", 2)[2].rpartition(".lora_")[0] for key in keys}
    attention = {f"{kind}_attn.{name}" for kind in ("self", "cross") for name in "qkvo"}
    assert names == attention | {"cross_attn.k_img", "cross_attn.v_img", "ffn.0", "ffn.2"}
