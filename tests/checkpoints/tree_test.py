import numpy as np
import pytest

from ft_jax.checkpoints import tree

NESTED = {"a": {"b": {"kernel": np.ones(2)}, "c": np.zeros(3)}, "d": np.arange(4)}


def test_flatten_and_unflatten_are_inverse():
    leaves = tree.flatten(NESTED)
    assert list(leaves) == ["a/b/kernel", "a/c", "d"]
    assert tree.flatten(tree.unflatten(leaves)) == leaves


def test_merge_undoes_split():
    kept, others = tree.split(NESTED, lambda path: path.endswith("kernel"))
    assert list(tree.flatten(kept)) == ["a/b/kernel"]
    assert tree.flatten(tree.merge(kept, others)) == tree.flatten(NESTED)


def test_trees_that_share_a_path_are_not_merged():
    with pytest.raises(ValueError, match="a/c: in both trees"):
        tree.merge({"a": {"c": 1}}, {"a": {"c": 2}})


def test_a_digest_depends_on_every_byte_name_and_type():
    leaves = tree.flatten(NESTED)
    same = tree.digest({path: leaf.copy() for path, leaf in reversed(leaves.items())})
    assert tree.digest(leaves) == same
    changed = [
        {**leaves, "d": leaves["d"] + 1},
        {**leaves, "d": leaves["d"].astype(np.int32)},
        {**leaves, "d": leaves["d"].reshape(2, 2)},
        {**{p: x for p, x in leaves.items() if p != "d"}, "e": leaves["d"]},
    ]
    assert len({tree.digest(each) for each in changed} | {same}) == 5
