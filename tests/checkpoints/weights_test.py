"""The folder of imported weights: what is in it, how little memory it takes, and damage."""

import shutil
import time
import weakref
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from ft_jax.checkpoints import handover, weights
from ft_jax.checkpoints.tree import digest, flatten
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

SYSTEM = {"frames": 5, "codec": {"width": 4}}
DRAW = np.random.default_rng(0).standard_normal
LEAVES = {
    "codec/conv/kernel": DRAW((3, 4, 5)).astype(np.float32),
    "codec/scale": DRAW(()).astype(np.float32),
    "denoiser/dit/blocks/kernel": DRAW((2, 6)).astype(ml_dtypes.bfloat16),
    "denoiser/dit/bias": DRAW(6).astype(np.float16),
}


def lazy(array: np.ndarray) -> Lazy:
    return Lazy(array.shape, array.dtype, lambda: array)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    weights.save(tmp_path / "w", SYSTEM, {path: lazy(array) for path, array in LEAVES.items()})
    return tmp_path / "w"


def same(tree) -> None:
    leaves = flatten(tree)
    assert leaves.keys() == LEAVES.keys()
    for path, array in LEAVES.items():
        np.testing.assert_array_equal(np.asarray(leaves[path]), array, strict=True)


def test_everything_comes_back_by_every_way(folder: Path):
    system, parts = weights.load(folder)
    assert system == SYSTEM
    same(parts)
    same(handover.read(folder).parts)
    same(jax.tree.map(lambda leaf: np.asarray(jax.numpy.asarray(leaf)), parts))
    with ocp.StandardCheckpointer() as checkpointer:  # plain Orbax, which knows nothing of ours
        same(checkpointer.restore(folder / "params"))


def test_opening_reads_no_array(folder: Path):
    (folder / "params" / "codec.scale" / "c").unlink()
    assert flatten(weights.load(folder)[1])["codec/scale"].shape == ()


def test_a_part_is_read_without_the_pieces_that_it_does_not_touch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(weights, "PIECE_BYTES", 64)
    array = DRAW((8, 8)).astype(np.float32)
    weights.save(tmp_path / "w", SYSTEM, {"codec/kernel": lazy(array)})
    pieces = sorted(
        file for file in (tmp_path / "w/params/codec.kernel/c").rglob("*") if file.is_file()
    )
    assert len(pieces) == 4
    for piece in pieces[1:]:
        piece.unlink()
    leaf = flatten(weights.load(tmp_path / "w")[1])["codec/kernel"]
    np.testing.assert_array_equal(leaf[slice(1, 3), slice(0, 4)], array[1:3, :4])
    with pytest.raises(UsageError, match="damaged"):
        leaf[slice(1, 3), slice(0, 5)]


def test_what_arrays_are_is_known_without_reading_them(folder: Path, tmp_path: Path):
    noted = digest(flatten(weights.load(folder)[1]))
    changed = {**LEAVES, "codec/scale": np.float32(7)}
    weights.save(tmp_path / "o", SYSTEM, {path: lazy(np.asarray(x)) for path, x in changed.items()})
    assert digest(flatten(weights.load(tmp_path / "o")[1])) != noted
    for array in (folder / "params").iterdir():
        if array.is_dir():
            shutil.rmtree(array)
    assert digest(flatten(weights.load(folder)[1])) == noted


def test_folders_without_noted_digests_are_read(folder: Path):
    (folder / weights.DIGESTS).unlink()
    assert digest(flatten(weights.load(folder)[1])) == digest(LEAVES)


def test_an_array_is_gone_before_the_next_is_read(tmp_path: Path):
    read: list[weakref.ref[np.ndarray]] = []

    def fetch() -> np.ndarray:
        # TensorStore's threads let go of what they have written a moment after they say so.
        for _ in range(500):
            if all(earlier() is None for earlier in read):
                break
            time.sleep(0.01)
        assert all(earlier() is None for earlier in read)
        array = np.ones((4, 1000), np.float32)
        read.append(weakref.ref(array))
        return array

    leaf = Lazy((4, 1000), np.dtype(np.float32), fetch)
    weights.save(tmp_path / "w", SYSTEM, {f"codec/{name}": leaf for name in "abc"})
    assert len(read) == 3


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path):
    def fail() -> np.ndarray:
        raise UsageError("shard: gone; expected it")

    bad = {"codec/b": Lazy((1,), np.dtype(np.float32), fail), "codec/a": lazy(np.ones(2))}
    with pytest.raises(UsageError, match="shard: gone; expected it"):
        weights.save(tmp_path / "w", SYSTEM, bad)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_stays_as_it_is(folder: Path):
    with pytest.raises(UsageError) as caught:
        weights.save(folder, SYSTEM, {})
    assert str(caught.value) == f"{folder}: exists; expected the name of a new folder"
    same(weights.load(folder)[1])


@pytest.mark.parametrize("piece", ["c", "zarr.json"])
@pytest.mark.parametrize("change", [Path.unlink, lambda piece: piece.write_bytes(b"x")])
def test_a_lost_or_truncated_piece_is_damage(folder: Path, change, piece: str):
    change(folder / "params" / "codec.scale" / piece)
    leaves = flatten(weights.load(folder)[1])
    with pytest.raises(UsageError, match=r"^\S+/params/codec\.scale: damaged \(.+\); expected we"):
        np.asarray(leaves["codec/scale"])


@pytest.mark.parametrize("text", ["{", "{}", '{"system": {}, "arrays": {"a": 1}}'])
def test_a_damaged_description_is_said_in_one_line(folder: Path, text: str):
    (folder / "meta" / "metadata").write_text(text)
    with pytest.raises(UsageError, match=rf"^{folder}: damaged \(.+\); expected weights"):
        weights.load(folder)
