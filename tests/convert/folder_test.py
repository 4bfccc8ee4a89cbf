"""Files and folders as they are found: types, links, shards, and every kind of damage."""

import json
import os
import pickle
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import save_file

from ft_jax.convert import folder
from ft_jax.errors import UsageError

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32)


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        folder.open_all(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def save(path: Path, **tensors: float) -> None:
    save_file({key: np.full(2, value, np.float32) for key, value in tensors.items()}, path)


def index(path: Path, places: dict[str, str]) -> None:
    path.write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("way", ["safetensors", "torch", "torch before archives"])
def test_every_type_is_read_as_it_is(way: str, tmp_path: Path):
    tensors = {str(kind): torch.randn(3, 2).mul(9).to(kind) for kind in TYPES}
    tensors["scalar"] = torch.tensor(3.0)
    tensors["turned"] = torch.randn(4, 3).to(torch.bfloat16).T.contiguous()
    if way == "safetensors":
        path = tmp_path / "x.safetensors"
        safetensors.torch.save_file(tensors, path)
    else:
        path = tmp_path / "x.pth"
        torch.save(tensors, path, _use_new_zipfile_serialization=way == "torch")
    (found,) = folder.open_all(path)
    assert found.tensors.keys() == tensors.keys()
    for key, tensor in tensors.items():
        got = np.asarray(found.tensors[key])
        assert got.dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert (found.tensors[key].dtype, found.tensors[key].shape) == (got.dtype, got.shape)
        wanted = tensor.double().numpy()
        np.testing.assert_array_equal(got.astype(np.float64), wanted, strict=True)


def test_fp8_is_read_from_both_kinds_of_file(tmp_path: Path):
    small = torch.randn(3, 2).to(torch.float8_e4m3fn)
    tensors = {"a.weight": small, "a.scale_weight": torch.tensor(2.0)}
    safetensors.torch.save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.pth")
    wanted = (small.float() * 2).numpy().astype(ml_dtypes.bfloat16)
    for name in ("x.safetensors", "x.pth"):
        (found,) = folder.open_all(tmp_path / name)
        np.testing.assert_array_equal(found.tensors["a.weight"], wanted, strict=True)


def test_nested_dictionaries_are_joined_by_dots(tmp_path: Path):
    torch.save({"a": {"b.c": torch.ones(1), "d": torch.ones(2)}}, tmp_path / "x.ckpt")
    assert list(folder.open_all(tmp_path / "x.ckpt")[0].tensors) == ["a.b.c", "a.d"]


class Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_runs_code_is_refused_and_does_not(tmp_path: Path):
    torch.save({"a": torch.ones(1), "b": Runs(tmp_path / "made")}, tmp_path / "x.pth")
    assert refused(tmp_path / "x.pth") == (
        f"{tmp_path}/x.pth: would run code when it is loaded; expected a file of tensors only"
    )
    assert not (tmp_path / "made").exists()


def test_whole_torch_modules_are_refused_as_code(tmp_path: Path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    assert "would run code" in refused(tmp_path / "x.pth")


def test_what_is_no_tensor_is_named(tmp_path: Path):
    torch.save({"state": {"w": torch.ones(1), "step": 3}}, tmp_path / "x.pth")
    assert refused(tmp_path / "x.pth") == (
        f"{tmp_path}/x.pth: state.step is of type int; expected a tensor"
    )


def test_truncated_and_foreign_files_are_damaged(tmp_path: Path):
    save(tmp_path / "x.safetensors", a=1)
    torch.save({"a": torch.ones(999)}, tmp_path / "x.pth")
    for name in ("x.safetensors", "x.pth"):
        data = (tmp_path / name).read_bytes()
        for kept in (0, 5, len(data) - 3):
            (tmp_path / name).write_bytes(data[:kept])
            assert refused(tmp_path / name).startswith(f"{tmp_path}/{name}: damaged")
    for foreign in (b"hello", b"xxxx", pickle.dumps("no weights", protocol=2)):
        (tmp_path / "x.pth").write_bytes(foreign)
        assert refused(tmp_path / "x.pth") == (
            f"{tmp_path}/x.pth: damaged; expected a file of PyTorch"
        )


def test_without_pytorch_its_files_say_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pth").touch()
    assert refused(tmp_path / "x.pth") == (
        f"{tmp_path}/x.pth: PyTorch's own format needs the package torch, which is not installed; "
        "expected pip install 'ft_jax[convert]', or a safetensors file"
    )


def test_a_folder_holds_several_models_also_behind_links(tmp_path: Path):
    (tmp_path / "blobs").mkdir()
    for name in ("1", "2", "3"):
        save(tmp_path / "blobs" / name, **{f"k{name}": 1})
    model = tmp_path / "model"
    (model / "vae").mkdir(parents=True)
    (model / ".cache").mkdir()
    (model / ".cache" / "half.safetensors").write_bytes(b"x")
    (model / "README.md").write_text("x")
    for number in (1, 2):
        name = f"m-{number:05d}-of-00002.safetensors"
        (model / name).symlink_to(tmp_path / "blobs" / str(number))
    (model / "vae" / "v.safetensors").symlink_to(tmp_path / "blobs" / "3")
    found = {tuple(weights.tensors): weights.path for weights in folder.open_all(model)}
    assert found == {("k1", "k2"): model, ("k3",): model / "vae" / "v.safetensors"}


def test_an_old_file_of_pytorch_called_model_is_read_where_it_is_named(tmp_path: Path):
    """As SyncNet's is; the sentence-piece model of a tokenizer ends so too."""
    torch.save(
        {"netfclip.0.bias": torch.ones(2)},
        tmp_path / "syncnet_v2.model",
        _use_new_zipfile_serialization=False,
    )
    (found,) = folder.open_all(tmp_path / "syncnet_v2.model")
    np.testing.assert_array_equal(found.tensors["netfclip.0.bias"], [1, 1])
    save(tmp_path / "x.safetensors", a=1)
    (tmp_path / "tokenizer.model").write_bytes(b"no weights")
    assert [list(each.tensors) for each in folder.open_all(tmp_path)] == [["a"]]


def test_weights_that_are_there_twice_are_read_as_safetensors(tmp_path: Path):
    save(tmp_path / "model.safetensors", a=1)
    torch.save({"b": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert [list(weights.tensors) for weights in folder.open_all(tmp_path)] == [["a"]]
    (tmp_path / "model.safetensors").unlink()
    assert [list(weights.tensors) for weights in folder.open_all(tmp_path)] == [["b"]]


@pytest.mark.parametrize("name", ["x.safetensors", "m-00001-of-00001.safetensors"])
def test_a_dangling_link_is_named_with_what_it_points_to(name: str, tmp_path: Path):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    assert refused(tmp_path) == (
        f"{tmp_path}/{name}: a link to {tmp_path}/gone, which is gone; expected a file"
    )


def test_a_missing_shard_is_named(tmp_path: Path):
    first, second = (f"m-{number:05d}-of-00002.safetensors" for number in (1, 2))
    save(tmp_path / first, a=1)
    assert refused(tmp_path) == (f"{tmp_path}/{second}: missing; expected 2 shards, there are 1")
    index(tmp_path / "m.safetensors.index.json", {"a": first, "b": second})
    assert refused(tmp_path) == (
        f"{tmp_path}/{second}: missing; expected 2 shards as {tmp_path}/m.safetensors.index.json "
        "says"
    )


def test_shards_of_two_models_are_refused(tmp_path: Path):
    first, second = (f"m-{number:05d}-of-00002.safetensors" for number in (1, 2))
    save(tmp_path / first, a=1, b=1)
    save(tmp_path / second, b=2, c=2)
    assert refused(tmp_path) == (
        f"{tmp_path}/{second}: b is also in {first}; expected shards of one model"
    )
    index(tmp_path / "m.safetensors.index.json", {"a": first, "b": second, "c": second})
    assert refused(tmp_path) == (
        f"{tmp_path}/{first}: holds other tensors than m.safetensors.index.json says, such as b; "
        "expected shards of one model"
    )


def test_nothing_to_read_is_said(tmp_path: Path):
    (tmp_path / "x.txt").touch()
    assert refused(tmp_path / "x.txt").startswith(f"{tmp_path}/x.txt: ends in no known way; exp")
    assert refused(tmp_path).startswith(f"{tmp_path}: no weights in this folder; expected .safe")
    assert refused(tmp_path / "no") == (
        f"{tmp_path}/no: no such file or folder; expected published weights"
    )
