r"""Trains one phase: any stage, any size, from nothing or from an earlier phase.

  python -m ft_jax.cli.train --config=configs/stage1_clip.py:mini --workdir=outputs/clip \
      --config.data.path=outputs/records --config.init_from=outputs/base

What learns is one word, --config.train: adapter (the branches), lora (those and low-rank changes of
the base) or full; each is a row of optim.groups.

Started once a machine (TPU VMs, GKE) or once a GPU (Slurm), the processes are one run; where JAX
does not find them by itself, --processes says who they are. The same command again continues where
the run stopped, or says that it is done. Exit status: 0 done, 75 told to stop (SIGTERM, SIGINT) and
saved, 76 loss or gradient stayed not finite (the records of those batches are in
WORKDIR/bad_batches.jsonl), 2 wrong input.

Tests: tests/training/train_test.py, tests/training/learns_test.py.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import flags

from ft_jax.cli import entry, memory, processes

_CONFIG = entry.define_config("configs/stage1_clip.py:mini")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run, here or at gs://.")


@dataclasses.dataclass(frozen=True)
class Data:
    """Which records a run sees (group `data`)."""

    path: str  # several folders: with commas
    weights: tuple[float, ...]  # share of each folder; () by their sizes
    held_out: str  # "" evaluates on nothing
    held_out_batches: int
    batch_size: int  # over all processes
    cache: bool  # keep records in memory
    threads: int
    prefetch: int  # batches


class Records:
    """The feed of a run: batches of `data_pipeline.grain`, as the stage wants them."""

    def __init__(self, data: Data, reads: Any, seed: int, rows: tuple[int, ...]) -> None:
        """Opens nothing yet; `reads` is a ft_jax.training.stages.Reads.

        `rows` are those of each global batch that this process reads.
        """
        self._data, self._reads, self._seed, self._rows = data, reads, seed, rows

    @property
    def encoders(self) -> dict[str, str]:
        """{part: fingerprint} of the encoders that made the records."""
        from data_pipeline.grain.source import read_metadata

        first = self._given(self._data.path, "config.data.path").split(",")[0]
        return read_metadata(first)["encoders"]

    def train(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Endless batches from number `start` on."""
        settings = self._settings(self._data.path, self._data.weights, "config.data.path")
        return self._open(settings, start, self._seed)

    def shapes(self) -> list[dict[str, np.ndarray]]:
        """A batch of each shape of the data sets; nothing is read where there is one alone."""
        from data_pipeline.grain import loader

        settings = self._settings(self._data.path, self._data.weights, "config.data.path")
        return loader.shapes(settings, self._seed) if len(settings.paths) > 1 else []

    def held_out(self) -> list[dict[str, np.ndarray]]:
        """The same few batches of the held-out records each time."""
        if not self._data.held_out:
            return []
        settings = self._settings(self._data.held_out, (), "config.data.held_out")
        batches = self._open(settings, 0, 0)
        return [next(batches) for _ in range(self._data.held_out_batches)]

    def _open(self, settings: Any, start: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
        from data_pipeline.grain import loader

        widths = self._reads.widths
        return loader.batches(settings, seed, start, encoders=self.encoders, widths=widths)

    def _settings(self, paths: str, weights: tuple[float, ...], name: str) -> Any:
        from data_pipeline.grain import loader

        data, reads = self._data, self._reads
        return loader.LoaderConfig(
            paths=tuple(self._given(paths, name).split(",")),
            weights=weights,
            batch_size=data.batch_size,
            kind=reads.kind,
            fields=reads.fields,
            frames=reads.frames,
            faces=reads.faces,
            text_len=reads.text_len,
            cache=data.cache,
            threads=data.threads,
            prefetch=data.prefetch,
            rows=self._rows,
        )

    @staticmethod
    def _given(path: str, name: str) -> str:
        from ft_jax.errors import UsageError

        if not path:
            raise UsageError(f"--{name}: not given; expected a folder made by data_pipeline.build")
        return path


def prepare(settings: Mapping[str, Any]) -> tuple[Any, Any, Data]:
    """Settings -> (run, stage, data), every group checked key by key.

    Raises:
      UsageError: A key is unknown or missing, or a value does not fit.
    """
    from ft_jax.config import build
    from ft_jax.models import lora
    from ft_jax.models.system import System
    from ft_jax.training import loop, optim, stages

    groups = dict(settings)
    kind = stages.kind(groups["stage"])
    system = build(System, groups.pop("model"), "config.model")
    task = build(kind.Config, groups.pop("task"), "config.task")
    data = build(Data, groups.pop("data"), "config.data")
    chosen, rates = groups.pop("train"), groups["optim"]["groups"]
    rates = build(optim.Groups, rates, "config.optim.groups").named(chosen)
    if "lora" in groups:
        low_rank = build(lora.Config, groups.pop("lora"), "config.lora")
        if chosen == "lora":
            denoiser = dataclasses.replace(system.denoiser, lora=low_rank)
            system = dataclasses.replace(system, denoiser=denoiser)
    stage = kind(task, system)
    groups["optim"] = {**groups["optim"], "groups": _for_its_branches(rates, stage, system)}
    return build(loop.Config, groups, "config"), stage, data


def _for_its_branches(groups: Any, stage: Any, system: Any) -> Any:
    """The groups of the branches that are not switched off."""
    from ft_jax.checkpoints.tree import flatten
    from ft_jax.config import to_dict
    from ft_jax.models import system as systems
    from ft_jax.training import optim

    if stage.system == to_dict(system):
        return groups
    whole = {"denoiser": systems.abstract(system, "denoiser")}
    return optim.without(groups, flatten(stage.abstract()), flatten(whole))


def cpu_devices(mesh: Any, samples: int, cores: int) -> int:
    """How many devices a machine without an accelerator plays.

    As many as the mesh has places; an axis that takes what is left gets a core a device, as far as
    the samples go round. XLA splits the work inside an operation less well than a batch: two cores
    as two devices take a fifth off a step of the mini models.
    """
    sizes = dataclasses.asdict(mesh)
    fixed = math.prod(size for size in sizes.values() if isinstance(size, int) and size > 0)
    if -1 not in (sizes["data"], sizes["fsdp"]):
        return fixed
    fitting = range(1, max(cores // fixed, 1) + 1)
    return fixed * max(ways for ways in fitting if samples % (fixed * ways) == 0 or ways == 1)


def main(arguments: list[str]) -> int:
    """Flags, then one call."""
    import jax

    from ft_jax.errors import UsageError
    from ft_jax.media import file
    from ft_jax.sharding import batch, mesh
    from ft_jax.training import loop

    if arguments:
        raise UsageError(f"{arguments[0]}: no such argument; expected flags only (see --help)")
    memory.keep()
    workdir = file.place(entry.need("workdir", "a folder for the run"))
    # The same command again finds its compiled step here.
    jax.config.update("jax_compilation_cache_dir", f"{workdir}/compiled")
    if file.is_remote(workdir):  # JAX writes there; XLA, whose own caches lie beside, does not
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    settings = _CONFIG.value.to_dict()
    run, stage, data = prepare(settings)
    samples = data.batch_size // run.optim.accumulate
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if count := processes.join():  # the devices of a cluster that JAX finds are its own
        here = max(cpu_devices(run.mesh, samples, cores) // count, 1)
        jax.config.update("jax_num_cpu_devices", here)
    rows = batch.rows(mesh.make(run.mesh), data.batch_size)
    feed = Records(data, stage.reads, run.seed, rows)
    return status(lambda: loop.train(run, stage, feed, workdir, settings))


def status(run: Callable[[], Any]) -> int:
    """The exit status of a run, from how it ends; see the head of this file."""
    from ft_jax.training import interrupt, patience

    try:
        return 0 if run().finished else interrupt.CODE
    except patience.NotFiniteError as error:
        print(f"ft_jax: {error}", file=sys.stderr)
        return patience.CODE


if __name__ == "__main__":
    entry.run(main)
