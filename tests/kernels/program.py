"""What lies in a lowered program: the shapes of its tensors."""

import math
import re
from typing import Any


def shapes(program: Any) -> set[tuple[int, ...]]:
    """Of every tensor that the text of a lowered program names, outside of kernels."""
    found = re.findall(r"tensor<((?:\d+x)+)[a-z]", program.as_text())
    return {tuple(map(int, dimensions[:-1].split("x"))) for dimensions in found}


def largest_tensor(program: Any) -> int:
    """Elements of the largest one."""
    return max(map(math.prod, shapes(program)))
