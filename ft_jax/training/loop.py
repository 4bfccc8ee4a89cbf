"""The one training loop: every phase of every model goes through `train`.

Its chapters, in an order that matters:
  1 mesh                      5 weights: own checkpoint, else init_from, else chance
  2 log and checkpoints       6 compile the step
  3 abstract state            7 evaluation
  4 where each array lives    8 the loop: evaluate old weights, save, next batch, step, log
                              9 close: last save, what the stage has to add, a summary
Saving comes before the next batch is pulled, so that state and data position agree. A run that is
told to stop (SIGTERM, SIGINT) saves and returns; the same command continues it, and gives bit for
bit what an uninterrupted run gives.

Tests: tests/training/loop_test.py.
"""

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ft_jax.checkpoints import handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten, merge
from ft_jax.errors import UsageError
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned
from ft_jax.training import compiler, optim, origin, program, step
from ft_jax.training.interrupt import Interrupt
from ft_jax.training.metrics import Log
from ft_jax.training.prefetch import Prefetch
from ft_jax.training.stages import Stage
from ft_jax.training.state import TrainState, averaged

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Every:
    """How often, in steps; 0 means never."""

    log: int
    evaluate: int
    save: int
    keep: int  # checkpoints that stay


@dataclasses.dataclass(frozen=True)
class Config:
    """A run, apart from its model (`model`), data (`data`) and stage (`task`)."""

    stage: str  # a key of ft_jax/training/stages
    seed: int
    num_steps: int
    init_from: str  # folder of a run, or a bundle; "" starts from chance
    init_require: str  # regex: parameters that init_from must have
    frozen_dtype: str  # float32, bfloat16; "" keeps the stored type
    optim: optim.Config
    mesh: meshes.Config
    every: Every


@runtime_checkable
class Feed(Protocol):
    """The data of a run, as batches of numpy arrays with the records' `id`s."""

    @property
    def encoders(self) -> Mapping[str, str]:
        """{part: fingerprint} of the encoder weights that made the data; {} for none."""
        ...

    def train(self, start: int) -> Iterator[Batch]:
        """Endless batches from number `start` on, always the same ones."""
        ...

    def held_out(self) -> list[Batch]:
        """Batches never trained on; may be empty."""
        ...


@dataclasses.dataclass(frozen=True)
class Summary:
    """How a run ended."""

    step: int
    finished: bool  # False: it was told to stop and has saved
    held_out: Mapping[str, float]  # metrics after the last step


def train(
    run: Config, stage: Stage, feed: Feed, workdir: str | os.PathLike[str], settings: Any
) -> Summary:
    """Trains `stage` in `workdir` until `run.num_steps`, continuing what is there.

    Args:
      run: The settings of the run.
      stage: What is trained, on what.
      feed: Its data.
      workdir: Folder for checkpoints and log.jsonl.
      settings: All settings as JSON values, kept in the checkpoints.

    Raises:
      UsageError: A setting, the data or the folder does not fit; or the loss is not finite.
    """
    closing = contextlib.ExitStack()  # threads end, however the run does
    # 1 mesh
    mesh = meshes.make(run.mesh)

    # 2 log and checkpoints
    place = Path(workdir)
    manager = Manager(place, run.every.keep)
    closing.callback(manager.close)

    # 3 abstract state, 4 where each array lives
    planned = origin.plan(stage, run.optim, run.num_steps, mesh, run.mesh.rules)

    # 5 weights: the run's own checkpoint wins over init_from, that wins over chance
    state, frozen, start, meta = _weights(run, stage, planned, manager, feed.encoders)
    meta["config"] = settings
    log = Log(place, run.stage, start, run.num_steps, run.every.log)
    log.say(f"step {start}/{run.num_steps} in {place}\n{origin.table(planned)}")

    # Logical axis names mean something from here on: unboxing parameters must not see them.
    with closing, partitioned(mesh, run.mesh.rules), Interrupt() as interrupt:
        # 6 compile the step
        feeder = functools.partial(_placed, stage=stage, mesh=mesh, parts=run.optim.accumulate)
        batches = Prefetch(feed.train(start), feeder)
        closing.callback(batches.close)
        first = next(batches) if start < run.num_steps else None
        update = _compiled(run, stage, planned, state, frozen, first, log)

        # 7 evaluation
        judge = _judge(stage, frozen, feed, feeder)

        # 8 the loop
        reached, result = start, dict[str, float]()
        for number in range(start, run.num_steps):
            if run.every.evaluate and number % run.every.evaluate == 0:
                _evaluate(judge, state, log, number)
            if run.every.save and number % run.every.save == 0 and number > start:
                log.settle()
                manager.save(number, origin.trees(state), {**meta, "batches": number})
            asked = time.perf_counter()
            (batch, ids), first = first or next(batches), None
            waited = time.perf_counter() - asked
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, frozen, batch)
            log.push(number, metrics, ids, waited)
            reached = number + 1
            if interrupt.asked:
                break

        # 9 close
        log.flush()
        manager.save(reached, origin.trees(state), {**meta, "batches": reached})
        manager.wait()
        finished = reached == run.num_steps
        if not finished:
            log.say(f"told to stop; saved step {reached}, the same command continues")
        elif start < reached or not (place / handover.SYSTEM).exists():
            result = _evaluate(judge, state, log, reached)
            _finish(stage, merge(averaged(state), frozen), feed, place)
        return Summary(reached, finished, result)


def _weights(
    run: Config,
    stage: Stage,
    planned: origin.Plan,
    manager: Manager,
    encoders: Mapping[str, str],
) -> tuple[TrainState, Any, int, dict[str, Any]]:
    found = origin.restored(manager, planned, stage, run.stage)
    if found is not None:
        state, start, base = found
        leaves = _frozen_again(planned, base)
    else:
        source = handover.read(run.init_from) if run.init_from else None
        if source:
            handover.check_encoders(source, encoders, "config.data.path")
        state, leaves, base = origin.started(
            planned, stage, source, run.init_require, run.seed, run.optim.ema
        )
        start = 0
    frozen = origin.placed_frozen(planned, leaves, run.frozen_dtype)
    made = {"stage": run.stage, "system": stage.system, "base": base}
    return state, frozen, start, {**made, "encoders": dict(encoders)}


def _frozen_again(planned: origin.Plan, base: Mapping[str, Any] | None) -> dict[str, Any]:
    if not planned.frozen or base is None:
        return {}
    return flatten(handover.frozen(base))


def _placed(
    batch: Batch, stage: Stage, mesh: Mesh, parts: int
) -> tuple[dict[str, jax.Array], list[str]]:
    """The stage's arrays on the devices, samples spread over data and fsdp."""
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * parts
    samples = len(batch["id"]) * jax.process_count()
    if samples % ways:
        raise UsageError(f"data.batch_size: {samples}; expected a multiple of {ways} (mesh)")
    arrays = {
        name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
        for name, value in stage.prepare(batch).items()
    }
    return arrays, [str(name) for name in batch["id"]]


def _compiled(
    run: Config,
    stage: Stage,
    planned: origin.Plan,
    state: TrainState,
    frozen: Any,
    first: Any,
    log: Log,
) -> Callable[..., Any]:
    jitted = program.update(stage, planned, run.optim, run.seed)
    if first is None:
        return jitted
    began = time.perf_counter()
    compiled = jitted.lower(state, frozen, first[0]).compile(compiler.step_options())
    memory = compiled.memory_analysis()
    size = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else 0
    log.say(f"compiled in {time.perf_counter() - began:.0f} s, {size:.0f} MiB per device")
    log.restart_clock()
    return compiled


def _judge(
    stage: Stage, frozen: Any, feed: Feed, feeder: Callable[[Batch], Any]
) -> Callable[[TrainState], dict[str, float]]:
    """A function of the state: mean metrics over the held-out batches, {} without any."""
    function = functools.partial(step.eval_step, stage=stage)
    jitted = jax.jit(function, compiler_options=compiler.step_options())
    batches: list[Any] = []

    def judge(state: TrainState) -> dict[str, float]:
        if not batches:
            batches.extend(feeder(batch)[0] for batch in feed.held_out())
        rows = [
            jax.device_get(jitted(state, frozen, batch, np.int32(index)))
            for index, batch in enumerate(batches)
        ]
        return (
            {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}
        )

    return judge


def _evaluate(
    judge: Callable[[TrainState], dict[str, float]], state: TrainState, log: Log, number: int
) -> dict[str, float]:
    """Judges the weights at step `number` and says so, unless that was done before a restart."""
    if log.judged(number):
        return {}
    result = judge(state)
    if result:
        log.settle()
        log.write({"step": number, "held_out": result})
        log.say("held out  " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(result.items())))
    log.restart_clock()
    return result


def _finish(stage: Stage, params: Any, feed: Feed, place: Path) -> None:
    """Writes what the stage adds to the configuration of the system: WORKDIR/system.json."""
    changes = stage.finish(params, feed.train(0))
    beside = place / f"{handover.SYSTEM}.tmp"
    beside.write_text(json.dumps(changes))
    os.replace(beside, place / handover.SYSTEM)
