"""Arrays that are read when they are needed: a shape and a type now, the numbers on request.

What stands between a file of weights and another one. `np.asarray(x)` reads; nothing is kept, so a
whole model passes through the memory of one array. `x[slices]` reads a part of it.

Tests: tests/convert/folder_test.py, tests/checkpoints/weights_test.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

Index = tuple[slice, ...]
"""One slice a dimension, of step 1."""


@dataclasses.dataclass(frozen=True)
class Lazy:
    """An array of known shape and type whose numbers `read` fetches, each time anew.

    Attributes:
      shape: Of the array.
      dtype: Of the array.
      read: Fetches all of it.
      read_part: Fetches what one slice a dimension names; None where only `read` can.
      digest: SHA-256 of its bytes, where that was noted when it was written; else "".
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]
    read_part: Callable[[Index], np.ndarray] | None = None
    digest: str = ""

    def __getitem__(self, index: Index) -> np.ndarray:
        """The part that `index` names, one slice a dimension; where it can, reads no more."""
        return self.read()[index] if self.read_part is None else self.read_part(index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What numpy and JAX ask for; always a fresh array."""
        del copy
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)


def cast(array: Any, dtype: np.dtype[Any]) -> Lazy:
    """`array`, lazy or not, in another type."""
    return Lazy(tuple(array.shape), dtype, lambda: np.asarray(array).astype(dtype, copy=False))
