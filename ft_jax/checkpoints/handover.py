"""Weights from one phase to the next: base -> stage 1 -> stage 2 -> bundle.

`read` opens a run's folder, a bundle or imported weights and gives {part: parameters}; those of
imported weights are lazy, so that only what is taken is read. A run gives its newest checkpoint,
RUN/checkpoints/STEP that one, RUN/checkpoints/best the one that `every.best` keeps: the moving
average of what was trained, and the frozen rest from the base the checkpoint names, whose content
must still have the hash that was noted. `fill` puts those weights where a new run's parameter tree
has a leaf of the same path and shape, and says which leaves are left to initialise.

Tests: tests/checkpoints/handover_test.py.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from ft_jax.checkpoints import bundle, weights
from ft_jax.checkpoints.manager import Manager, Saved
from ft_jax.checkpoints.tree import digest, fingerprint, flatten, merge, unflatten
from ft_jax.errors import UsageError
from ft_jax.media import file
from ft_jax.typing import Params

CHECKPOINTS, BEST = "checkpoints", "best"

SYSTEM = "system.json"
"""In a run's folder: what the run adds to the configuration of the system when it is done."""

CLIP = ("fps", "frames", "height", "width")
"""What all parts of a system have to agree on."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
      path: The run's folder, the bundle or the folder of weights.
      system: Configuration of the system they belong to.
      parts: {part: parameters}.
      base: Where the part of them that was frozen comes from ({"path", "digest", "paths"}), or
        None.
      encoders: {part: fingerprint} of the weights that made the data of the run; {} if it read none
        that was made by any.
    """

    path: str
    system: Mapping[str, Any]
    parts: Mapping[str, Params]
    base: Mapping[str, Any] | None
    encoders: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def part(self, name: str) -> Params:
        """The parameters of one part.

        Raises:
          UsageError: There is no such part; the message names the source and the part.
        """
        if name not in self.parts:
            raise UsageError(f"{self.path}: no part {name!r}; expected one of {sorted(self.parts)}")
        return self.parts[name]


def read(path: str | os.PathLike[str]) -> Source:
    """Opens a run's folder (its newest good checkpoint), one checkpoint, a bundle file or weights.

    Raises:
      UsageError: Neither, nothing trained yet, no such checkpoint, or the base of the run is gone
        or has changed.
    """
    path = os.fspath(path)
    place = file.place(path)
    is_asked = place.parent.name == CHECKPOINTS and (place.name.isdigit() or place.name == BEST)
    run, asked = (place.parent.parent, place.name) if is_asked else (place, "")
    if not run.exists():
        raise UsageError(f"{path}: no such file or folder; expected weights")
    if place.is_file():
        system, parts = bundle.load(path)
        return Source(path, system, parts, None)
    if not asked and weights.is_weights(path):
        system, parts = weights.load(path)
        return Source(path, system, parts, None)
    if not (run / CHECKPOINTS).is_dir():
        raise UsageError(f"{path}: no run in this folder; expected one made by ft_jax.cli.train")
    saved = _saved(run, asked)
    (trained,) = saved.trees.values()
    system = dict(saved.meta["system"])
    updates = run / SYSTEM
    if updates.exists():
        system = _updated(system, json.loads(updates.read_text()))
    base = saved.meta["base"]
    parts = merge(trained, frozen(base)) if base else trained
    # A base is named by the step: another checkpoint may be the best one later.
    name = str(run / CHECKPOINTS / str(saved.step)) if asked else path
    return Source(name, system, parts, base, saved.meta.get("encoders", {}))


def _saved(run: epath.Path, asked: str) -> Saved:
    """The newest good checkpoint of a run, or the one that is asked for: a step, or BEST."""
    manager = Manager(run)
    try:
        steps = manager.steps()
        if not steps:
            raise UsageError(f"{run}: no checkpoint yet; expected a run that has saved one")
        if asked:
            step = manager.best() if asked == BEST else int(asked)
            if step not in steps:
                what = "this run keeps no best checkpoint" if step is None else "no such checkpoint"
                place = run / CHECKPOINTS / asked
                raise UsageError(f"{place}: {what}; expected one of {steps}")
            steps = [step]
        saved = manager.restore(steps=steps)
    finally:
        manager.close()
    assert saved is not None  # there are steps, and where none can be read it has said so
    return saved


def check_encoders(source: Source, encoders: Mapping[str, str], name: str) -> None:
    """Refuses weights and data that other encoders stand behind: latents would mean other things.

    Args:
      source: Weights, of a run or a bundle that has encoders of its own.
      encoders: {part: fingerprint} of what they are to be used with.
      name: Of that, for the message.

    Raises:
      UsageError: A part that both have differs.
    """
    known = dict(source.encoders)
    for part in encoders:
        if part not in known and part in source.parts:
            known[part] = fingerprint(source.system[part], source.parts[part])
    for part in sorted(set(known) & set(encoders)):
        if known[part] != encoders[part]:
            raise UsageError(
                f"{name}: {part} {encoders[part]}; {source.path} was trained with {part} "
                f"{known[part]}; expected the same encoder weights on both sides"
            )


def frozen(base: Mapping[str, Any]) -> Params:
    """The frozen parameters that a checkpoint's `meta.base` names.

    Raises:
      UsageError: They are gone, or are not those the checkpoint was trained on.
    """
    leaves = flatten(read(base["path"]).parts)
    wanted = {path: leaves[path] for path in base["paths"] if path in leaves}
    if len(wanted) != len(base["paths"]) or digest(wanted) != base["digest"]:
        raise UsageError(
            f"{base['path']}: other weights than this run was started from; expected content hash "
            f"{base['digest'][:12]}"
        )
    return unflatten(wanted)


def describe(source: Source, paths: list[str]) -> dict[str, Any]:
    """`meta.base` of a run that takes the frozen `paths` from `source`.

    A source whose own base already holds all of them is passed through, so that stage 2 names the
    base model and does not depend on the folder of stage 1.
    """
    if source.base and set(paths) <= set(source.base["paths"]):
        origin, all_paths = source.base["path"], set(source.base["paths"])
        if all_paths == set(paths):
            return dict(source.base)
    else:
        origin = source.path
    leaves = flatten(source.parts)
    return {
        "path": str(file.place(origin)),
        "digest": digest({path: leaves[path] for path in paths}),
        "paths": sorted(paths),
    }


def fill(abstract: Mapping[str, Any], source: Source | None, require: str) -> dict[str, Any]:
    """The leaves of `source` that a new run's tree has room for, lazy ones unread.

    Args:
      abstract: {path: array or abstract array} of the new run.
      source: Where to start from; None gives nothing.
      require: Regex; every path that matches it must be found.

    Raises:
      UsageError: A required leaf is missing, or one has another shape.
    """
    name = source.path if source else "init_from"
    leaves = flatten(source.parts) if source else {}
    found = {path: leaves[path] for path in abstract if path in leaves}
    for path, leaf in found.items():
        if leaf.shape != tuple(abstract[path].shape):
            raise UsageError(
                f"{name}: {path} has shape {leaf.shape}; expected {tuple(abstract[path].shape)}"
            )
    missing = [path for path in abstract if path not in found and re.fullmatch(require, path)]
    if missing:
        raise UsageError(
            f"{name}: no weights for {missing[0]} ({len(missing)} missing); expected a run or "
            f"bundle that has them, by --config.init_from"
        )
    return found


def assemble(
    system: Mapping[str, Any], sources: Sequence[Source], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Params]]:
    """Parts of several sources as one system: (configuration, {part: parameters}).

    Args:
      system: Configuration of the clips, of their sampling and of the parts that no source has.
      sources: Later ones win; each brings the configuration of its parts.
      names: Parts of a system; what else a run has trained is left behind.

    Raises:
      UsageError: A source was made for clips of another size or length.
    """
    settings, parts = dict(system), dict[str, Params]()
    for source in sources:
        for name in names:
            if name in source.parts:
                parts[name], settings[name] = source.parts[name], source.system[name]
        for name in CLIP:
            if source.system[name] != system[name]:
                raise UsageError(
                    f"{source.path}: {name} is {source.system[name]}; expected {system[name]}"
                )
    return settings, parts


def _updated(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(settings)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = _updated(result[key], value)
        else:
            result[key] = value
    return result
