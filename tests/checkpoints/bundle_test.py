import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_jax.checkpoints import bundle
from ft_jax.checkpoints.tree import flatten
from ft_jax.errors import UsageError

SYSTEM = {"frames": 17, "codec": {"mean": [0.5, -1.25], "std": [1.0, 2.0]}, "landmarks": None}


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 4)).astype(np.float32)
    return {
        "codec": {"conv": {"kernel": kernel, "bias": np.zeros(4, np.float32)}},
        "text": {"table": rng.normal(size=(2, 5)).astype(np.float32)},
    }


def test_what_is_loaded_is_what_was_saved_in_bfloat16(tmp_path, parts):
    path = tmp_path / "folder" / "mini.safetensors"
    bundle.save(path, SYSTEM, parts)
    system, loaded = bundle.load(path)
    assert system == SYSTEM
    before, after = flatten(parts), flatten(loaded)
    assert before.keys() == after.keys()
    for name, leaf in after.items():
        assert leaf.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(leaf, before[name].astype(ml_dtypes.bfloat16))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.stat().st_mode & 0o444 == 0o444


def test_the_same_weights_make_the_same_file(tmp_path, parts):
    for name in ("one", "two"):
        bundle.save(tmp_path / name, SYSTEM, parts)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"mini\.safetensors: no such file"):
        bundle.load(tmp_path / "mini.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 60, -10])
def test_a_truncated_file_is_refused(tmp_path, parts, keep):
    path = tmp_path / "mini.safetensors"
    bundle.save(path, SYSTEM, parts)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"mini\.safetensors: damaged"):
        bundle.load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": np.zeros(2)}, str(path))
    with pytest.raises(UsageError, match=r"other\.safetensors: no entry 'system'"):
        bundle.load(path)


def test_a_key_without_a_part_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    metadata = {"system": json.dumps(SYSTEM)}
    save_file({"kernel": np.zeros(2)}, str(path), metadata=metadata)
    with pytest.raises(UsageError, match="key 'kernel' has no part"):
        bundle.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, parts, monkeypatch):
    path = tmp_path / "mini.safetensors"
    bundle.save(path, SYSTEM, parts)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        bundle.save(path, {"other": 1}, parts)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
