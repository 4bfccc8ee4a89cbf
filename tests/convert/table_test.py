"""Properties of the conversion engine on a table small enough to read."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ft_jax.convert import table
from ft_jax.convert.table import Row, Table
from ft_jax.errors import UsageError

SMALL = Table(
    "a small model",
    (
        Row("blocks.{n}.ffn.weight", "blocks/up/kernel", table.LINEAR),
        Row("blocks.{n}.table", "blocks/table", table.LEADING),
        Row("stem.weight", "stem/kernel", table.CONV3D),
        Row("levels.{n}.conv.weight", "level_{n}/conv/kernel", table.CONV2D),
        Row("attn.qkv.weight", "query/kernel", table.LINEAR, (0, 3)),
        Row("attn.qkv.weight", "key/kernel", table.LINEAR, (1, 3)),
        Row("attn.qkv.weight", "value/kernel", table.LINEAR, (2, 3)),
        Row("scale", "scale"),
    ),
    ignored=(r"extra\..*",),
)


def tensors(dtype=np.float32):
    random = np.random.default_rng(0)
    shapes = {
        "stem.weight": (4, 3, 1, 2, 2),
        "attn.qkv.weight": (12, 5),
        "scale": (),
    }
    for n in range(3):
        shapes |= {f"blocks.{n}.ffn.weight": (7, 4), f"blocks.{n}.table": (1, 6, 4)}
        shapes[f"levels.{n}.conv.weight"] = (4 + n, 3, 3, 3)
    return {key: random.normal(size=shape).astype(dtype) for key, shape in shapes.items()}


def tree(dtype=np.float32):
    shapes: dict[str, Any] = {
        "blocks": {"up": {"kernel": (3, 4, 7)}, "table": (3, 6, 4)},
        "stem": {"kernel": (1, 2, 2, 3, 4)},
        **{f"level_{n}": {"conv": {"kernel": (3, 3, 3, 4 + n)}} for n in range(3)},
        **{name: {"kernel": (5, 4)} for name in ("query", "key", "value")},
        "scale": (),
    }

    def build(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: build(value) for key, value in node.items()}
        return np.zeros(node, dtype)

    return build(shapes)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_there_and_back_gives_every_bit_again(dtype):
    given = tensors(dtype)
    back = table.to_torch(SMALL, table.to_params(SMALL, given, tree()))
    assert back.keys() == given.keys()
    for key, value in given.items():
        assert back[key].dtype == value.dtype and back[key].shape == value.shape
        np.testing.assert_array_equal(back[key], value)


def test_layers_are_stacked_in_order_and_layouts_turned():
    given = tensors()
    params = table.to_params(SMALL, given, tree())
    np.testing.assert_array_equal(
        params["blocks"]["up"]["kernel"][2], given["blocks.2.ffn.weight"].T
    )
    np.testing.assert_array_equal(params["key"]["kernel"], given["attn.qkv.weight"][4:8].T)
    assert params["stem"]["kernel"][0, 1, 0, 2, 3] == given["stem.weight"][3, 2, 0, 1, 0]


def test_shapes_need_no_arrays():
    assert table.shapes(SMALL, tree()) == {key: value.shape for key, value in tensors().items()}


def test_every_fault_is_listed_in_one_error():
    given = tensors()
    del given["blocks.1.table"], given["scale"]
    given["surprise"] = np.zeros(1)
    given["extra.thing"] = np.zeros(1)
    given["stem.weight"] = np.zeros((4, 3, 1, 2, 3))
    with pytest.raises(UsageError) as caught:
        table.to_params(SMALL, given, tree(), "file.pth")
    message = str(caught.value)
    assert message.startswith("file.pth: ")
    assert "2 missing: blocks.1.table, scale" in message
    assert "1 unexpected: surprise" in message and "extra" not in message
    assert "stem.weight [4, 3, 1, 2, 3] instead of [4, 3, 1, 2, 2]" in message


def test_shards_of_different_precision_are_refused():
    given = tensors()
    given["blocks.2.ffn.weight"] = given["blocks.2.ffn.weight"].astype(np.float16)
    with pytest.raises(UsageError, match=r"blocks\.2\.ffn\.weight: dtype float16"):
        table.to_params(SMALL, given, tree())


def test_a_leaf_without_a_row_is_a_fault_of_the_table():
    with pytest.raises(ValueError, match="forgotten/kernel has 0 rows"):
        table.plan(SMALL, {**tree(), "forgotten": {"kernel": np.zeros(2)}})
