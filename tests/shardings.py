"""Where every array of a run lives, config by config and mesh by mesh: tests/shardings.txt.

One line a parameter: how it is split by each table of rules, one word a dimension (`.`: not at all;
`whole`: none of them). After `/` stands how its two moments and its average are, where that
differs. Numbers in paths are `*` where all of them lie alike, and runs that lie alike share a text.

    JAX_PLATFORMS=cpu python -m tests.shardings      writes the file anew

Test: tests/configs_test.py.
"""

import dataclasses
import functools
import importlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from ft_jax.checkpoints.tree import flatten
from ft_jax.cli import train
from ft_jax.sharding import mesh as meshes
from ft_jax.training import origin

FILE = Path(__file__).with_suffix(".txt")
MESHES: tuple[tuple[str, Mapping[str, int]], ...] = (
    ("replicated", {"data": 64}),
    ("replicated", {"data": 2, "fsdp": 2, "context": 2}),
    ("fsdp", {"data": 2, "fsdp": 2, "context": 2}),
    ("fsdp", {"fsdp": 8, "context": 8}),
    ("sliced", {"data": 2, "fsdp": 2, "context": 2}),
    ("fsdp", {"fsdp": 4, "tensor": 2}),
)
ENCODERS = ("pictures", "crops", "codec", "speech", "alignment", "face", "landmarks")
RUNS = (
    *((name, "mini", "full") for name in (*ENCODERS, "base_i2v")),
    *(("base_i2v", size, "lora") for size in ("mini", "wan_14b")),
    ("base_i2v", "wan_14b", "full"),
    *(
        (name, size, learns)
        for size in ("mini", "wan_14b")
        for learns in ("adapter", "lora", "full")
        for name in ("stage1_clip", "stage2_frame")
    ),
)
"""Every shipped config, and everything that can learn; encoders are trained in small only."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device as far as meshes ask; nothing is put onto it."""

    id: int
    platform: str = "cpu"
    device_kind: str = "cpu"
    process_index: int = 0


def plans(name: str, size: str, learns: str) -> Iterator[origin.Plan]:
    """The abstract run of a config on each of the meshes."""
    c = importlib.import_module(f"configs.{name}").get_config(size)
    c.train = learns
    run, stage, _ = train.prepare(c.to_dict())
    stage.abstract = functools.cache(stage.abstract)  # tracing it is what takes long
    for rules, sizes in MESHES:
        ways = [sizes.get(axis, 1) for axis in meshes.AXES]
        chips: Any = np.array([Chip(number) for number in range(math.prod(ways))]).reshape(ways)
        mesh = Mesh(chips, meshes.AXES, axis_types=(AxisType.Auto,) * len(ways))
        yield origin.plan(stage, run.optim, run.num_steps, mesh, rules)


def split(leaf: Any) -> str:
    """How an array is split.

    Raises:
      ValueError: A dimension does not divide.
    """
    leaf.sharding.shard_shape(leaf.shape)
    spec = [*leaf.sharding.spec, *(None for _ in leaf.shape)][: len(leaf.shape)]
    words = ["+".join((axes,) if isinstance(axes, str) else axes or ".") for axes in spec]
    return " ".join(words) if set(words) - {"."} else "whole"


def lies(plan: origin.Plan) -> dict[str, str]:
    """{path of a parameter, or of anything else in the state: how it is split}."""
    trained = flatten(plan.state.params)
    beside: dict[str, set[str]] = {path: set() for path in trained}
    found = {path: f"{split(leaf)}, frozen" for path, leaf in plan.frozen.items()}
    rest = {"step": plan.state.step, "opt_state": plan.state.opt_state, "ema": plan.state.ema}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(rest):
        names = re.findall(r"\w+", jax.tree_util.keystr(keys, simple=True, separator="/"))
        tails = ["/".join(names[at:]) for at in range(len(names))]
        if path := next((tail for tail in tails if tail in trained), None):
            beside[path].add(split(leaf))
        else:
            found[tails[0]] = split(leaf)
    for path, leaf in trained.items():
        others = sorted(beside[path] - {split(leaf)})
        found[path] = " / ".join([split(leaf), *others])
    return found


def folded(found: Mapping[str, str]) -> str:
    """Lines, one for all paths that differ by a number only, if they lie alike."""
    alike: dict[str, set[str]] = {}
    for path, how in found.items():
        alike.setdefault(re.sub(r"\d+", "*", path), set()).add(how)
    lines = {
        f"{path if len(alike[star]) > 1 else star}: {how}"
        for path, how in found.items()
        for star in [re.sub(r"\d+", "*", path)]
    }
    return "\n".join(sorted(lines))


def text() -> str:
    """What the file has to say."""
    parts: dict[str, dict[str, list[str]]] = {}
    for run in RUNS:
        for (rules, sizes), plan in zip(MESHES, plans(*run), strict=True):
            mesh = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
            heads = parts.setdefault(folded(lies(plan)), {})
            heads.setdefault("{}:{}, {}".format(*run), []).append(f"{mesh} ({rules})")
    return "\n".join(
        "\n".join([*(f"# {run}: {'; '.join(on)}" for run, on in heads.items()), body, ""])
        for body, heads in parts.items()
    )


if __name__ == "__main__":
    FILE.write_text(text())
