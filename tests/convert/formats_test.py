"""Every format there and back, what a file is taken for, and what is refused."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ft_jax.checkpoints.tree import flatten
from ft_jax.convert import fantasytalking, folder, formats, identity, motion, table, torch_addon
from ft_jax.errors import UsageError
from ft_jax.lazy import cast
from tests.convert import published

SUFFIX = {"folder": "", "file": ".safetensors", "torch": ".pth"}
ONE_TYPE = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@ONE_TYPE
@pytest.mark.parametrize("name", formats.FORMATS)
def test_import_of_an_export_gives_every_bit_again(name: str, dtype: str, tmp_path: Path):
    fmt, system = formats.named(name), published.system_of(name)
    # Several shards, wherever a format has them.
    out = published.write(name, tmp_path / f"out{SUFFIX[fmt.kind]}", 20_000, dtype)
    (found,) = folder.open_all(out)
    seen, leaves = formats.leaves(found, system, None)
    assert seen.part == fmt.part
    assert seen.table(system).name == fmt.table(system).name
    given = {
        path: leaf
        for path, leaf in flatten(published.params(dtype, system)).items()
        if path.startswith(f"{fmt.part}/")
    }
    assert leaves.keys() == given.keys()
    for path, leaf in leaves.items():
        read = np.asarray(leaf)
        assert (leaf.shape, leaf.dtype) == (read.shape, read.dtype)
        assert read.dtype == given[path].dtype
        np.testing.assert_array_equal(read, given[path], err_msg=path)


def test_a_folder_of_shards_has_an_index_of_all_tensors(tmp_path: Path):
    out = published.write("wan_diffusers", tmp_path / "out", 20_000)
    index = json.loads((out / "diffusion_pytorch_model.safetensors.index.json").read_text())
    held = {path.name: load_file(path) for path in out.glob("*.safetensors")}
    assert len(held) > 2 and all(re.fullmatch(r".+-0\d{4}-of-0\d{4}\.\w+", n) for n in held)
    assert index["weight_map"] == {key: name for name in held for key in held[name]}
    sizes = [sum(x.nbytes for x in tensors.values()) for tensors in held.values()]
    assert index["metadata"]["total_size"] == sum(sizes) and max(sizes) <= 20_000


def test_the_official_checkpoint_is_a_dictionary_of_two(tmp_path: Path):
    state = torch.load(published.write("fantasytalking", tmp_path / "out.ckpt"))
    assert sorted(state) == ["audio_processor", "proj_model"]
    assert sorted(state["proj_model"]) == ["norm.bias", "norm.weight", "proj.weight"]
    assert "blocks.1.cross_attn.processor.v_proj.weight" in state["audio_processor"]


@pytest.mark.parametrize("name", ["fantasytalking_safetensors", "identity", "motion"])
def test_a_branch_comes_with_its_settings_and_the_program_that_runs_it(name: str, tmp_path: Path):
    cfg = published.system().denoiser
    assert cfg.audio and cfg.identity and cfg.motion
    settings = {
        "fantasytalking_safetensors": fantasytalking.metadata(cfg.audio),
        "identity": identity.metadata(cfg.identity),
        "motion": motion.metadata(cfg.motion),
    }
    out = published.write(name, tmp_path / "out.safetensors")
    with safe_open(out, framework="numpy") as file:
        assert file.metadata() == {"format": "pt", **settings[name]}
    program = tmp_path / torch_addon.FILE.name
    assert program.read_bytes() == torch_addon.FILE.read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted([out, program])


def test_encoders_come_without_that_program(tmp_path: Path):
    out = published.write("vae", tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["clip", "clip_hf"])
def test_a_clip_comes_back_with_what_the_denoiser_does_not_read(name: str, tmp_path: Path):
    system, fmt = published.system(), formats.named(name)
    (whole,) = folder.open_all(published.write(name, tmp_path / f"whole{SUFFIX[fmt.kind]}"))
    given = {key: np.asarray(x).astype(np.float16) for key, x in whole.tensors.items()}
    if name == "clip":
        given |= {"log_scale": np.array(2.5, np.float32), "textual.head.0.weight": np.ones((2, 3))}
        given["textual.head.0.weight"] = given["textual.head.0.weight"].astype(np.float32)
    bare = dataclasses.replace(system, image=dataclasses.replace(system.image, projection=0))
    tensors = {key: cast(x, x.dtype) for key, x in given.items()}
    _, leaves = formats.leaves(folder.Weights(whole.path, tensors), bare, None)
    parts = table.unflatten(leaves)
    own = table.flatten(formats.abstract(bare, "image"))
    assert table.flatten(parts["image"]).keys() == own.keys() and len(own) < len(given)
    layout, stream = formats.tensors(fmt, bare, parts)
    back = dict(stream)
    assert back.keys() == layout.keys() == given.keys()
    for key, tensor in given.items():
        assert layout[key] == (tensor.shape, tensor.dtype)
        np.testing.assert_array_equal(back[key], tensor, err_msg=key, strict=True)
    _, halves = formats.leaves(folder.Weights(whole.path, tensors), bare, np.dtype(np.float16))
    assert {leaf.dtype for leaf in halves.values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("wan_comfyui", ""),
        ("wan_comfyui", "diffusion_model."),
        ("vae_comfyui", ""),
        ("wav2vec2", "wav2vec2."),
        ("wav2vec2", "hubert."),
    ],
)
def test_a_file_may_have_any_prefix_in_use(name: str, prefix: str, tmp_path: Path):
    fmt = formats.named(name)
    (whole,) = folder.open_all(published.write(name, tmp_path / f"out{SUFFIX[fmt.kind]}"))
    own = fmt.prefixes[0]
    renamed = {prefix + key.removeprefix(own): x for key, x in whole.tensors.items()}
    _, leaves = formats.leaves(folder.Weights(whole.path, renamed), published.system(), None)
    path, leaf = next(iter(leaves.items()))
    np.testing.assert_array_equal(leaf, flatten(published.params())[path])


def test_one_type_for_all_may_be_asked_for(tmp_path: Path):
    (found,) = folder.open_all(published.write("vae", tmp_path / "out.pth"))
    _, leaves = formats.leaves(found, published.system(), np.dtype(np.float16))
    for path, leaf in leaves.items():
        wanted = flatten(published.params())[path].astype(np.float16)
        np.testing.assert_array_equal(leaf, wanted, strict=True)


def changed(tmp_path: Path, name: str, change) -> folder.Weights:
    """The speech branch or codec as one safetensors file whose tensors were changed."""
    path = published.write(name, tmp_path / "whole.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return folder.open_all(tmp_path / "changed.safetensors")[0]


def refused(found: folder.Weights) -> str:
    with pytest.raises(UsageError) as caught:
        formats.leaves(found, published.system(), None)
    return str(caught.value)


def test_all_wrong_keys_are_listed_with_what_the_file_looks_like(tmp_path: Path):
    def change(tensors):
        tensors["extra"] = tensors.pop("proj_model.proj.weight")
        tensors["proj_model.norm.bias"] = np.zeros(3, np.float32)

    assert refused(changed(tmp_path, "fantasytalking_comfyui", change)) == (
        f"{tmp_path}/changed.safetensors: does not hold the 7 tensors of FantasyTalking speech "
        "branch, ComfyUI names; 1 missing: proj_model.proj.weight; 1 unexpected: extra; "
        "1 of another shape: proj_model.norm.bias [3] instead of [16]"
    )


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path):
    def change(tensors):
        tensors["proj_model.norm.bias"] = tensors["proj_model.norm.bias"].astype(np.int32)

    assert refused(changed(tmp_path, "fantasytalking_comfyui", change)) == (
        f"{tmp_path}/changed.safetensors: proj_model.norm.bias is int32; expected one of float32, "
        "bfloat16, float16"
    )


def test_blocks_of_several_types_are_refused_unless_one_is_asked_for(tmp_path: Path):
    key = "blocks.1.cross_attn.k_proj.weight"

    def change(tensors):
        tensors[key] = tensors[key].astype(np.float16)

    found = changed(tmp_path, "fantasytalking_comfyui", change)
    assert refused(found) == (
        f"{tmp_path}/changed.safetensors: blocks.0.cross_attn.k_proj.weight and its like in other "
        "blocks are float16 and float32; expected one type, or --dtype"
    )
    _, leaves = formats.leaves(found, published.system(), np.dtype(np.float16))
    assert np.asarray(leaves["denoiser/audio/key/kernel"]).dtype == np.float16


def test_foreign_tensors_look_like_nothing(tmp_path: Path):
    save_file({"a": np.ones(2), "b": np.ones(2)}, tmp_path / "x.safetensors")
    message = refused(folder.open_all(tmp_path / "x.safetensors")[0])
    assert message.startswith(
        f"{tmp_path}/x.safetensors: looks like no known format (2 tensors: a, b...); expected one "
        "of wan, "
    )


def test_a_face_encoder_of_other_norms_is_not_written_as_arcface():
    system = published.system()
    grouped = dataclasses.replace(system, face=dataclasses.replace(system.face, norm="group"))
    given = {"face": formats.abstract(grouped, "face")}
    with pytest.raises(UsageError, match=r"^config\.face: has no form in arcface \(.+ has 0 rows"):
        formats.tensors(formats.named("arcface"), grouped, given)


def test_each_naming_names_other_keys():
    """Else one of two formats could never be recognised."""
    system = published.system()
    seen: dict[frozenset[str], str] = {}
    for fmt in formats.FORMATS.values():
        keys = frozenset(table.shapes(fmt.table(system), formats.abstract(system, fmt.part)))
        name = fmt.table(system).name
        assert seen.setdefault(keys, name) == name
