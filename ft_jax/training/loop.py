"""The one training loop: every phase of every model goes through `train`.

Its chapters, in an order that matters:
  1 mesh                      5 weights: own checkpoint, else init_from, else chance
  2 checkpoints               6 compile the step
  3 abstract state            7 evaluation
  4 where each array lives    8 the loop: evaluate old weights, save, next batch, step, log
                              9 close: last save, what the stage has to add, a summary
Saving comes before the next batch is pulled, so that state and data position agree. A run that is
told to stop (SIGTERM, SIGINT) saves and returns; the same command continues it, and gives bit for
bit what an uninterrupted run gives. What is only looked at stands in watch.py and metrics.py.

Tests: tests/training/loop_test.py.
"""

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from ft_jax.checkpoints import handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten, merge
from ft_jax.errors import UsageError
from ft_jax.media import file
from ft_jax.nn import quantised
from ft_jax.sharding import batch as sharding
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned
from ft_jax.sharding.processes import agreed, is_first
from ft_jax.training import compiler, flops, optim, origin, program, step, watch
from ft_jax.training.interrupt import Interrupt
from ft_jax.training.metrics import Log, Work
from ft_jax.training.mirror import Mirror
from ft_jax.training.prefetch import Prefetch
from ft_jax.training.preview import Preview
from ft_jax.training.stages import Stage
from ft_jax.training.state import TrainState, averaged
from ft_jax.training.steps import Steps, abstract

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Every:
    """How often, in steps; 0 means never."""

    log: int
    evaluate: int
    save: int
    keep: int  # newest checkpoints that stay
    keep_every: int  # and those of every so many steps
    best: str  # and the one with the lowest held-out metric of this name; "": none

    def __post_init__(self) -> None:
        for name in ("log", "keep"):
            if getattr(self, name) < 1:
                raise UsageError(f"every.{name}: got {getattr(self, name)}; expected at least 1")
        for name, is_asked in (("keep_every", self.keep_every > 0), ("evaluate", bool(self.best))):
            steps = getattr(self, name)
            if is_asked and not (self.save and steps and steps % self.save == 0):
                raise UsageError(
                    f"every.{name}: got {steps}; expected a multiple of every.save, {self.save}: "
                    f"only what is saved can stay"
                )


@dataclasses.dataclass(frozen=True)
class Config:
    """A run, apart from its model (`model`), data (`data`) and stage (`task`)."""

    stage: str  # a key of ft_jax/training/stages
    seed: int
    num_steps: int
    init_from: str  # a run, a checkpoint of one, or other weights; "" starts from chance
    init_require: str  # regex: parameters that init_from must have
    frozen_dtype: origin.FrozenType
    optim: optim.Config
    mesh: meshes.Config
    every: Every
    watch: watch.Config

    def __post_init__(self) -> None:
        if self.frozen_dtype == "int8":
            quantised.need_library()


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

    def shapes(self) -> list[Batch]:
        """A batch of each shape, where there are several; else none."""
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
      workdir: Folder for checkpoints and log.jsonl, on this machine or at gs://.
      settings: All settings as JSON values, kept in the checkpoints.

    Raises:
      UsageError: A setting, the data or the folder does not fit.
      NotFiniteError: Loss or gradient stayed not finite.
    """
    began = time.time()
    closing = contextlib.ExitStack()  # threads end, however the run does
    # 1 mesh
    mesh = meshes.make(run.mesh)

    # 2 checkpoints, and what is looked at
    place = file.place(workdir)
    mirror = Mirror(place)
    closing.callback(mirror.close)  # the last to be closed: all others write to it
    manager = Manager(place, run.every.keep, run.every.keep_every, run.every.best)
    closing.callback(manager.close)

    preview = Preview(run.watch.preview, stage.system, mirror.folder)

    # 3 abstract state, 4 where each array lives
    planned = origin.plan(stage, run.optim, run.num_steps, mesh, run.mesh.rules)
    manager.check_room(origin.trees(planned.state))

    # 5 weights: the run's own checkpoint wins over init_from, that wins over chance
    state, frozen, start, meta = _weights(run, stage, planned, manager, feed.encoders)
    meta["config"] = settings
    left = range(start, run.num_steps)
    log = Log(mirror.folder, run.stage, left, run.every.log, run.watch.bad_steps, began)
    log.say(f"step {start}/{run.num_steps} in {place}\n{origin.table(planned)}")

    # Logical axis names mean something from here on: unboxing parameters must not see them.
    with closing, partitioned(mesh, run.mesh.rules), Interrupt() as interrupt:
        closing.callback(log.close)
        watching = watch.Watch(run.watch, (place, mirror.folder), log, start, settings)
        closing.callback(watching.close)

        # 6 compile the step
        feeder = functools.partial(_placed, stage=stage, mesh=mesh, parts=run.optim.accumulate)
        batches = Prefetch(feed.train(start), feeder)
        closing.callback(batches.close)
        first = next(batches) if left else None
        update = _steps(run, stage, planned, (state, frozen), log, mesh)
        closing.callback(update.close)
        if first is not None:
            update.ahead([first[0]])
            update.ahead(feeder(batch)[0] for batch in feed.shapes())
            update.wait(first[0])
        log.goodput.add("start", time.time() - began)
        log.restart_clock()

        # 7 evaluation
        judge = _judge(stage, frozen, feed, feeder)

        def save(number: int, result: Mapping[str, float]) -> None:
            with log.goodput.lost("checkpoint"):
                state_of = origin.trees(state)
                manager.save(number, state_of, {**meta, "batches": number}, result)

        # 8 the loop
        reached = start
        for number in left:
            result = dict[str, float]()
            if run.every.evaluate and number % run.every.evaluate == 0:
                result = _evaluate(judge, state, log, number, run.every.best)
            if run.every.save and number % run.every.save == 0 and number > start:
                log.settle()
                save(number, result)
            if preview.due(number):
                log.settle()
                with log.goodput.lost("preview"):
                    shown = preview.show(merge(averaged(state), frozen), number)
                if shown is not None:
                    log.say(f"preview {shown.relative_to(mirror.folder)}")
                log.restart_clock()
            watching.before(number)
            asked = time.perf_counter()
            (batch, ids), first = first or next(batches), None
            waited = time.perf_counter() - asked
            with jax.transfer_guard("disallow"):
                state, metrics = update(state, frozen, batch)
            work = Work(ids, len(next(iter(batch.values()))), update.flops(batch))
            log.push(number, metrics, work, waited)
            reached = number + 1
            if interrupt.asked(reached):
                break

        # 9 close
        log.flush()
        finished = reached == run.num_steps
        is_new = finished and agreed(start < reached or not (place / handover.SYSTEM).exists())
        result = _evaluate(judge, state, log, reached, run.every.best) if is_new else {}
        save(reached, result)
        manager.wait()
        if not finished:
            log.say(f"told to stop; saved step {reached}, the same command continues")
        elif is_new:
            if run.every.best:
                log.say(f"best held-out {run.every.best}: step {manager.best()}, kept")
            _finish(stage, merge(averaged(state), frozen), feed, place)
        return Summary(reached, finished, result)


def _weights(
    run: Config,
    stage: Stage,
    planned: origin.Plan,
    manager: Manager,
    encoders: Mapping[str, str],
) -> tuple[TrainState, Any, int, dict[str, Any]]:
    found = origin.restored(manager, planned, stage, run.stage, run.seed)
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
    made = {"stage": run.stage, "seed": run.seed, "system": stage.system, "base": base}
    return state, frozen, start, {**made, "encoders": dict(encoders)}


def _frozen_again(planned: origin.Plan, base: Mapping[str, Any] | None) -> dict[str, Any]:
    if not planned.frozen or base is None:
        return {}
    return flatten(handover.frozen(base))


def _placed(
    batch: Batch, stage: Stage, mesh: Mesh, parts: int
) -> tuple[dict[str, jax.Array], list[str]]:
    """The stage's arrays on the devices, samples spread over data and fsdp."""
    arrays = sharding.place(stage.prepare(batch), mesh)
    ways = mesh.shape["data"] * mesh.shape["fsdp"] * parts
    samples = len(next(iter(arrays.values())))
    if samples % ways:
        raise UsageError(f"data.batch_size: {samples}; expected a multiple of {ways} (mesh)")
    return arrays, [str(name) for name in batch["id"]]


def _steps(
    run: Config,
    stage: Stage,
    planned: origin.Plan,
    given: tuple[TrainState, Any],
    log: Log,
    mesh: Mesh,
) -> Steps:
    """Steps to be compiled; where the rate of the devices is known, the log says MFU."""
    jitted = program.update(stage, planned, run.optim, run.seed)
    around = functools.partial(partitioned, mesh, run.mesh.rules)
    rate, count = flops.peak(mesh.devices.flat[0].device_kind), None
    if rate is not None:
        log.expect(rate * mesh.size)
        state, frozen = abstract(given)
        count = functools.partial(program.useful, stage, state.params, frozen)
    return Steps(jitted, given, compiler.step_options(), around, log.say, count)


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
    judge: Callable[[TrainState], dict[str, float]],
    state: TrainState,
    log: Log,
    number: int,
    best: str,
) -> dict[str, float]:
    """Judges the weights at step `number` and says so, unless that was done before a restart.

    Raises:
      UsageError: Nothing is held out that has the metric `best`.
    """
    known = log.judged(number)
    if agreed(bool(known)):
        return known
    log.settle()
    with log.goodput.lost("evaluation"):
        result = judge(state)
    if best and best not in result:
        raise UsageError(f"every.best: no held-out {best!r}; expected one of {sorted(result)}")
    if result:
        log.write({"step": number, "held_out": result})
        log.say("held out  " + "  ".join(f"{k} {v:.4f}" for k, v in sorted(result.items())))
    log.restart_clock()
    return result


def _finish(stage: Stage, params: Any, feed: Feed, place: epath.Path) -> None:
    """Writes what the stage adds to the configuration of the system: WORKDIR/system.json."""
    changes = stage.finish(params, feed.train(0))
    if not is_first():
        return
    beside = place / f"{handover.SYSTEM}.tmp"
    beside.write_text(json.dumps(changes))
    beside.replace(place / handover.SYSTEM)
