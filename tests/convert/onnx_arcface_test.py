"""ArcFace as ONNX: exported by hand here as PyTorch's exporter does it, with and without norms."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ft_jax.convert import onnx_arcface
from ft_jax.errors import UsageError

EPS = 1e-5
BLOCKS = ((4, 2), (6, 1))  # width, blocks of each level
DRAW = np.random.default_rng(0).standard_normal


def state() -> dict[str, np.ndarray]:
    """A torch state of two levels."""
    tensors: dict[str, np.ndarray] = {}

    def norm(key: str, width: int) -> None:
        for name in ("weight", "bias", "running_mean"):
            tensors[f"{key}.{name}"] = DRAW(width).astype(np.float32)
        tensors[f"{key}.running_var"] = (0.5 + DRAW(width) ** 2).astype(np.float32)

    def conv(key: str, outputs: int, inputs: int, taps: int) -> None:
        tensors[f"{key}.weight"] = DRAW((outputs, inputs, taps, taps)).astype(np.float32)

    conv("conv1", 4, 3, 3), norm("bn1", 4)
    tensors["prelu.weight"] = DRAW(4).astype(np.float32)
    inputs = 4
    for level, (width, blocks) in enumerate(BLOCKS, 1):
        for block in range(blocks):
            key = f"layer{level}.{block}"
            norm(f"{key}.bn1", inputs), conv(f"{key}.conv1", width, inputs, 3)
            norm(f"{key}.bn2", width), conv(f"{key}.conv2", width, width, 3)
            tensors[f"{key}.prelu.weight"] = DRAW(width).astype(np.float32)
            norm(f"{key}.bn3", width)
            if block == 0:
                conv(f"{key}.downsample.0", width, inputs, 1), norm(f"{key}.downsample.1", width)
            inputs = width
    norm("bn2", inputs)
    tensors["fc.weight"] = DRAW((5, inputs)).astype(np.float32)
    tensors["fc.bias"] = DRAW(5).astype(np.float32)
    norm("features", 5)
    return tensors


class Graph:
    """Nodes and stored arrays under numbers, as an exporter leaves them."""

    def __init__(self, tensors: dict[str, np.ndarray], folded: bool) -> None:
        self.tensors, self.folded = tensors, folded
        self.nodes, self.stored, self.count = [], [], 0

    def add(self, kind: str, *inputs: str, arrays: tuple[np.ndarray, ...] = (), **more) -> str:
        names = []
        for array in arrays:
            self.count += 1
            names.append(str(self.count))
            self.stored.append(numpy_helper.from_array(array, names[-1]))
        self.count += 1
        self.nodes.append(helper.make_node(kind, [*inputs, *names], [f"t{self.count}"], **more))
        return f"t{self.count}"

    def norm(self, x: str, key: str) -> str:
        names = ("weight", "bias", "running_mean", "running_var")
        arrays = tuple(self.tensors[f"{key}.{name}"] for name in names)
        return self.add("BatchNormalization", x, arrays=arrays)

    def conv(self, x: str, key: str, norm: str) -> str:
        weight = self.tensors[f"{key}.weight"]
        if not self.folded:
            return self.norm(self.add("Conv", x, arrays=(weight,)), norm)
        scale, bias, mean, var = (
            self.tensors[f"{norm}.{name}"]
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(var + np.float32(EPS))
        arrays = (weight * factor[:, None, None, None], bias - mean * factor)
        return self.add("Conv", x, arrays=arrays)

    def prelu(self, x: str, key: str) -> str:
        return self.add("PRelu", x, arrays=(self.tensors[f"{key}.weight"][:, None, None],))

    def write(self, path: Path) -> Path:
        x = self.add("Mul", self.add("Sub", "picture", arrays=(np.float32([127.5]),)))
        x = self.prelu(self.conv(x, "conv1", "bn1"), "prelu")
        for level, (_, blocks) in enumerate(BLOCKS, 1):
            for block in range(blocks):
                key = f"layer{level}.{block}"
                y = self.conv(self.norm(x, f"{key}.bn1"), f"{key}.conv1", f"{key}.bn2")
                y = self.conv(self.prelu(y, f"{key}.prelu"), f"{key}.conv2", f"{key}.bn3")
                if block == 0:
                    x = self.conv(x, f"{key}.downsample.0", f"{key}.downsample.1")
                x = self.add("Add", y, x)
        x = self.add("Flatten", self.add("Dropout", self.norm(x, "bn2")))
        linear = (self.tensors["fc.weight"], self.tensors["fc.bias"])
        x = self.norm(self.add("Gemm", x, arrays=linear, transB=1), "features")
        picture = helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, None)
        end = helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "face", [picture], [end], self.stored)
        onnx.save(helper.make_model(graph), str(path))
        return path


def affine(tensors, conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """What a convolution and its norm do together: weight and offset of each output."""
    scale, bias, mean, var = (
        np.asarray(tensors[f"{norm}.{name}"])
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(var + np.float32(EPS))
    weight = np.asarray(tensors[f"{conv}.weight"])
    return weight * factor[:, None, None, None], bias - mean * factor


def test_unfolded_graphs_give_the_torch_form_bit_for_bit(tmp_path: Path):
    wanted = state()
    found = onnx_arcface.read(Graph(wanted, folded=False).write(tmp_path / "x.onnx"))
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        np.testing.assert_array_equal(found[key], array, strict=True)


def test_folded_norms_do_the_same_to_every_channel(tmp_path: Path):
    wanted = state()
    found = onnx_arcface.read(Graph(wanted, folded=True).write(tmp_path / "x.onnx"))
    assert found.keys() == wanted.keys()
    pairs = [("conv1", "bn1")]
    for key in wanted:
        if key.endswith(".conv1.weight"):
            block = key.removesuffix(".conv1.weight")
            pairs += [(f"{block}.conv{n}", f"{block}.bn{n + 1}") for n in (1, 2)]
        if key.endswith("downsample.0.weight"):
            block = key.removesuffix(".0.weight")
            pairs.append((f"{block}.0", f"{block}.1"))
    for conv, norm in pairs:
        for theirs, ours in zip(affine(wanted, conv, norm), affine(found, conv, norm), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    folded = {f"{conv}.weight" for conv, _ in pairs} | {
        f"{norm}.{name}"
        for _, norm in pairs
        for name in ("weight", "bias", "running_mean", "running_var")
    }
    for key in wanted.keys() - folded:
        np.testing.assert_array_equal(found[key], wanted[key], strict=True)


def test_another_network_is_named_as_such(tmp_path: Path):
    graph = Graph(state(), folded=True)
    path = graph.write(tmp_path / "x.onnx")
    model = onnx.load(str(path))
    next(node for node in model.graph.node if node.op_type == "PRelu").op_type = "Relu"
    onnx.save(model, str(path))
    with pytest.raises(UsageError, match=r"x\.onnx: another network \(Relu: .+\); expected ArcF"):
        onnx_arcface.read(path)


def test_a_damaged_file_is_refused(tmp_path: Path):
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(UsageError, match=r"x\.onnx: damaged; expected an ONNX file"):
        onnx_arcface.read(tmp_path / "x.onnx")
