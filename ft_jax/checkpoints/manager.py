"""Orbax checkpoints of a run: state, batches consumed and configuration, together and atomic.

    WORKDIR/checkpoints/STEP/{params,ema,rest,meta}

params   the trained parameters, float32; frozen ones are never in a run's checkpoint, `meta.base`
         names where they came from (path and content hash)
ema      their moving average, if one is kept
rest     optimizer state and step
meta     JSON: step, batches consumed (all that is needed to continue the data), configuration,
         base, the metric that the best is kept by, and a checksum of every leaf that this process
         holds whole

Saving is asynchronous; a directory under its final name is complete (in a bucket, which renames no
directories, one that has `commit_success.txt`). A newest checkpoint that
cannot be read, or whose checksums differ, is passed over with a warning that names it. Stay may the
newest, those of every so many steps, and the best by a held-out metric.

Tests: tests/checkpoints/manager_test.py, tests/training/loop_test.py (resume, bit for bit).
"""

import contextlib
import dataclasses
import logging
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ft_jax.errors import UsageError
from ft_jax.media import file

ITEMS = ("params", "ema", "rest", "meta")


@dataclasses.dataclass(frozen=True)
class Saved:
    """One checkpoint as read: trees as saved, arrays placed like the abstract ones asked for."""

    step: int
    trees: Mapping[str, Any]
    meta: Mapping[str, Any]


class Manager:
    """The checkpoints of one run, in `workdir`/checkpoints."""

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        keep: int = 2,
        keep_every: int = 0,
        best: str = "",
    ) -> None:
        """Opens (and makes) the directory.

        Args:
          workdir: Folder of the run.
          keep: So many of the newest checkpoints stay.
          keep_every: And those of every so many steps; 0: none.
          best: And the one with the lowest metric of this name, of those saved with metrics; "":
            none.
        """
        self.directory = file.place(workdir) / "checkpoints"
        self._damaged: set[int] = set()
        self._best = best
        stay: list[Any] = [policies.LatestN(keep)]
        if keep_every:
            stay.append(policies.EveryNSteps(keep_every))
        if best:
            stay.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[best],
                    reverse=True,  # the last one stays
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.AnyPreservationPolicy(stay),
            best_fn=(lambda metrics: metrics[best]) if best else None,
            best_mode="min",
            create=True,
            enable_async_checkpointing=True,
        )
        try:
            self._orbax = ocp.CheckpointManager(self.directory, options=options, item_names=ITEMS)
        except OSError as error:
            raise UsageError(
                f"{workdir}: {error.strerror}; expected a folder to write to"
            ) from None

    def save(
        self,
        step: int,
        trees: Mapping[str, Any],
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving {item: tree}; returns when the arrays may be donated.

        Args:
          step: Number of the checkpoint; a good one that exists already is left as it is.
          trees: Some of params, ema, rest; a None is left out.
          meta: What else must come back, as JSON.
          metrics: Held out, of this step; None for a step that was not judged.
        """
        if step in self._orbax.all_steps():
            if step not in self._damaged:
                return
            self._orbax.delete(step)
            self._damaged.discard(step)
        trees = {name: _off_device(tree) for name, tree in trees.items() if tree is not None}
        meta = {**meta, "step": step, "checksums": _checksums(trees), "best": self._best}
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        args = ocp.args.Composite(**items, meta=ocp.args.JsonSave(meta))
        judged = dict(metrics) if metrics and self._best else None
        with self._room():
            self._orbax.save(step, args=args, metrics=judged)

    def check_room(self, trees: Mapping[str, Any]) -> None:
        """Sees to it that there is space for one more checkpoint of these (abstract) trees.

        Raises:
          UsageError: There is not.
        """
        if file.is_remote(self.directory):  # a bucket has no end
            return
        leaves = jax.tree.leaves(dict(trees))
        needed = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise UsageError(
                f"{self.directory}: {free / 2**20:.0f} MiB are free; expected "
                f"{needed / 2**20:.0f} MiB for a checkpoint"
            )

    def steps(self) -> list[int]:
        """All complete checkpoints, newest first."""
        return sorted(self._orbax.all_steps(), reverse=True)

    def best(self) -> int | None:
        """The step of the checkpoint that stays as the best one; None if the run keeps none.

        Of a folder that was opened without the name of a metric, its newest checkpoint knows it.
        """
        metric = self._best or self._noted_metric()
        judged = {step: self._orbax.metrics(step) or {} for step in self.steps()} if metric else {}
        values = {step: metrics[metric] for step, metrics in judged.items() if metric in metrics}
        return min(values, key=values.__getitem__, default=None)

    def restore(
        self,
        abstract: Mapping[str, Any] | None = None,
        check: Callable[[Mapping[str, Any]], None] | None = None,
        steps: Sequence[int] | None = None,
    ) -> Saved | None:
        """The newest checkpoint that can be read, or None.

        Args:
          abstract: {item: tree of `jax.ShapeDtypeStruct` with shardings}; None reads only `ema`
            (`params` where there is none), as nested dictionaries of numpy arrays.
          check: Is shown the `meta` of a checkpoint before its arrays are read, and may raise a
            UsageError.
          steps: Only the first of these that can be read; None: of all, newest first.

        Raises:
          UsageError: There are checkpoints, and none can be read.
        """
        failures = []
        for step in self.steps() if steps is None else steps:
            try:
                return self._read(step, abstract, check)
            except UsageError:
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds for a bad file
                self._damaged.add(step)
                place = self.directory / str(step)
                failures.append(f"{place}: {str(error).splitlines()[0][:200]}")
                logging.warning("checkpoint passed over: %s", failures[-1])
        if failures:
            raise UsageError(f"{failures[0]}; expected a readable checkpoint, none of them is")
        return None

    def wait(self) -> None:
        """Blocks until everything that was started is on disk under its final name."""
        with self._room():
            self._orbax.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the directory."""
        self.wait()
        self._orbax.close()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        """A full disk in one line; TensorStore says it in a ValueError, at the next call."""
        try:
            yield
        except (OSError, ValueError) as error:
            if "No space left on device" not in str(error):
                raise
            raise UsageError(
                f"{self.directory}: the disk is full; expected room for a checkpoint (the newest "
                f"whole one stays)"
            ) from None

    def _noted_metric(self) -> str:
        for step in self.steps():
            with contextlib.suppress(Exception):  # damaged: `restore` passes it over as well
                return self._note(step).get("best", "")  # not in those of earlier versions
        return ""

    def _note(self, step: int) -> Mapping[str, Any]:
        note = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._orbax.restore(step, args=note)["meta"]

    def _read(
        self,
        step: int,
        abstract: Mapping[str, Any] | None,
        check: Callable[[Mapping[str, Any]], None] | None,
    ) -> Saved:
        meta = self._note(step)
        if check is not None:
            check(meta)
        names = [name for name in ITEMS[:-1] if name in meta["checksums"]]
        if abstract is None:
            names = ["ema" if "ema" in names else "params"]
            targets: Mapping[str, Any] = {name: None for name in names}
        else:
            targets = {name: tree for name, tree in abstract.items() if tree is not None}
        items = {name: ocp.args.StandardRestore(tree) for name, tree in targets.items()}
        trees = dict(self._orbax.restore(step, args=ocp.args.Composite(**items)).items())
        for name, found in _checksums(trees).items():
            wanted = meta["checksums"][name]  # fewer, if several processes saved
            if wrong := [leaf for leaf in found if wanted.get(leaf, found[leaf]) != found[leaf]]:
                raise ValueError(f"{name}{wrong[0]}: checksum differs")
        return Saved(step, trees, meta)


def _off_device(tree: Any) -> Any:
    """A copy in host memory where this process holds the arrays whole.

    On a CPU a numpy view pins the device array, and the next step could not reuse its memory.
    """
    return jax.tree.map(lambda x: np.array(x) if _whole(x) else x, tree)


def _whole(x: Any) -> bool:
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def _checksums(trees: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    result = {}
    for name, tree in trees.items():
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        result[name] = {
            "".join(str(_key(k)) for k in path): _checksum(leaf)
            for path, leaf in leaves
            if _whole(leaf)
        }
    return result


def _key(entry: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
            return f"/{getattr(entry, attribute)}"
    return f"/{entry}"


def _checksum(leaf: Any) -> int:
    array = np.ascontiguousarray(np.asarray(leaf))
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)
