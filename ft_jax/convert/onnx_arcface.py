"""InsightFace's ArcFace as ONNX -> the tensors of its torch form.

Exported graphs have lost their names (tensors are numbered) and usually their norms: a convolution
and the batch norm behind it are folded into a convolution with a bias. So the graph is walked from
the picture on, which has one shape:

    conv [norm] prelu,  blocks,  norm, [dropout], flatten, linear, norm
    block = norm conv [norm] prelu conv [norm] + (itself, or conv [norm]: a new level begins)

A folded bias becomes a norm that only adds it: mean 0, variance 1 - eps, scale 1. Scaling of pixels
in front (subtract, multiply) is passed by; our crops come scaled.

Tests: tests/convert/onnx_arcface_test.py (against the torch form, folded and not).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy

_EPS = 1e-5  # of all norms of this network
_PASSED = ("Sub", "Mul", "Div", "Dropout", "Identity", "Cast")


def read(path: Path) -> dict[str, Lazy]:
    """The tensors of an ArcFace file by the keys of its torch form.

    Raises:
        UsageError: the file is damaged, holds another network, or onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise UsageError(
            f"{path}: ONNX needs the package onnx, which is not installed; expected "
            f"pip install 'ft_jax[convert]'"
        ) from None
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(str(path)).graph
        arrays = {x.name: np.array(onnx.numpy_helper.to_array(x)) for x in graph.initializer}
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError):
        raise UsageError(f"{path}: damaged; expected an ONNX file") from None
    walk = _Walk(path, graph, arrays)
    walk.network()
    return {
        key: Lazy(array.shape, array.dtype, lambda array=array: array)
        for key, array in walk.tensors.items()
    }


class _Walk:
    """One pass over a graph; `tensors` fills up."""

    def __init__(self, path: Path, graph: Any, arrays: Mapping[str, np.ndarray]) -> None:
        self.path, self.arrays = path, arrays
        self.tensors: dict[str, np.ndarray] = {}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                if name not in arrays:
                    self.users.setdefault(name, []).append(node)
        self.at = next(x.name for x in graph.input if x.name not in arrays)

    def network(self) -> None:
        """The whole encoder."""
        self.convolution("conv1", "bn1")
        self.prelu("prelu")
        level, block = 0, 0
        while len(self.users.get(self.at, ())) == 2:
            level, block = self.block(level, block)
        self.norm("bn2")
        self.step("Flatten", "Reshape")
        linear = self.step("Gemm")
        self.tensors["fc.weight"] = self.array(linear, 1)
        self.tensors["fc.bias"] = self.array(linear, 2)
        if not next((a.i for a in linear.attribute if a.name == "transB"), 0):
            self.tensors["fc.weight"] = self.tensors["fc.weight"].T
        self.norm("features")

    def block(self, level: int, block: int) -> tuple[int, int]:
        """One residual block; returns the place of the next."""
        start = self.at
        sides = {node.op_type: node for node in self.users[start]}
        level, block = (level + 1, 0) if "Conv" in sides else (level, block)
        if set(sides) not in ({"BatchNormalization", "Conv"}, {"BatchNormalization", "Add"}):
            raise self.other(f"{' and '.join(sides)} after {start}")
        key = f"layer{level}.{block}"
        self.at = start
        self.norm(f"{key}.bn1", sides["BatchNormalization"])
        self.convolution(f"{key}.conv1", f"{key}.bn2")
        self.prelu(f"{key}.prelu")
        self.convolution(f"{key}.conv2", f"{key}.bn3")
        end = self.step("Add").output[0]
        if "Conv" in sides:
            self.at = start
            self.convolution(f"{key}.downsample.0", f"{key}.downsample.1", sides["Conv"])
            self.step("Add")
        self.at = end
        return level, block + 1

    def step(self, *kinds: str) -> Any:
        """The next node, which must be one of `kinds`; goes on behind it."""
        while len(users := self.users.get(self.at, ())) == 1 and users[0].op_type in _PASSED:
            self.at = users[0].output[0]
        if len(users) != 1 or users[0].op_type not in kinds:
            raise self.other(f"{' and '.join(x.op_type for x in users) or 'nothing'}: {self.at}")
        self.at = users[0].output[0]
        return users[0]

    def convolution(self, key: str, norm: str, node: Any = None) -> None:
        """A convolution without bias and its norm, or both in one."""
        node = self.step("Conv") if node is None else self.through(node)
        self.tensors[f"{key}.weight"] = self.array(node, 1)
        if len(node.input) < 3:
            self.norm(norm)
            return
        bias = self.array(node, 2)
        whole = np.ones_like(bias)
        self.tensors |= {
            f"{norm}.weight": whole,
            f"{norm}.bias": bias,
            f"{norm}.running_mean": np.zeros_like(bias),
            f"{norm}.running_var": whole - bias.dtype.type(_EPS),
        }

    def norm(self, key: str, node: Any = None) -> None:
        """A batch norm."""
        node = self.step("BatchNormalization") if node is None else self.through(node)
        for index, name in enumerate(("weight", "bias", "running_mean", "running_var"), 1):
            self.tensors[f"{key}.{name}"] = self.array(node, index)

    def prelu(self, key: str) -> None:
        """Slopes [c 1 1] there, [c] in torch."""
        self.tensors[f"{key}.weight"] = self.array(self.step("PRelu"), 1).reshape(-1)

    def through(self, node: Any) -> Any:
        """Goes on behind a node that is known."""
        self.at = node.output[0]
        return node

    def array(self, node: Any, index: int) -> np.ndarray:
        """A stored input of a node."""
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.arrays:
            raise self.other(f"{node.op_type} {node.output[0]} without stored weights")
        return self.arrays[name]

    def other(self, what: str) -> UsageError:
        return UsageError(f"{self.path}: another network ({what}); expected ArcFace's IResNet")
