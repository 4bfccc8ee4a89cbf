r"""Is a run that is killed again and again the run that nobody killed?

    python benchmarks/soak.py --kills 20                      tiny model, records of chance
    python benchmarks/soak.py --kills 5 -- --config=configs/stage1_clip.py:mini --config.data.path=D

One run to its end, then the same one killed with SIGKILL at random moments (start-up, steps, saves)
and started again, until it is done. At the end both must hold the same bits: parameters, averages,
optimizer state. What a kill cost is counted in steps: at most one interval between saves, and those
that ran while an unfinished save was being written.

Exit status: 0 as it must be, 1 not. Tests: tests/benchmarks/soak_test.py.
"""

import argparse
import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

from benchmarks import results

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0  # seconds without a first step, after which a run has failed
IN_START = 0.2  # share of the kills that fall before the first step


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to run; `command` is completed by `--workdir=DIR`, and must log every step."""

    out: Path
    command: tuple[str, ...]
    save: int  # steps between saves
    kills: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Kill:
    """One kill, and what it cost."""

    reached: int  # last step in the log
    saving: int | None  # step of the save that was begun and not yet whole
    resumed: int  # step of the next start

    def excess(self, save: int) -> int:
        """Steps lost beyond what may be lost."""
        allowed = save + (0 if self.saving is None else self.reached - self.saving)
        return max(self.reached - self.resumed - allowed, 0)


@dataclasses.dataclass(frozen=True)
class Findings:
    """What came out."""

    kills: tuple[Kill, ...]
    differs: tuple[str, ...]  # arrays that are not the same in the end
    goodput: float  # of the killed run

    def holds(self, save: int) -> bool:
        """Whether all is as it must be."""
        return not self.differs and not any(kill.excess(save) for kill in self.kills)


class Life:
    """One process of a run."""

    def __init__(self, plan: Plan, workdir: Path, number: int) -> None:
        """Starts it."""
        workdir.mkdir(parents=True, exist_ok=True)
        self._workdir, self._said = workdir, workdir / f"life.{number}.txt"
        self._before = last_step(workdir)
        command = [*plan.command, f"--workdir={workdir}"]
        with self._said.open("w") as said:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=said, stdout=said)

    def resumed(self) -> int | None:
        """The step it began with, once it has said so."""
        found = re.search(r"step (\d+)/\d+ in ", self._said.read_text())
        return int(found[1]) if found else None

    def first_step(self) -> bool:
        """Waits for a step of its own; False: it ended before."""
        began = time.monotonic()
        while self.process.poll() is None:
            start = self.resumed()
            if start is not None and last_step(self._workdir) > start:
                return True
            if time.monotonic() - began > PATIENCE:
                self.kill()
                raise RuntimeError(f"no step within {PATIENCE:.0f} s: {self._said.read_text()}")
            time.sleep(0.02)
        return False

    def kill(self) -> None:
        """Ends it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Waits for its own end, which must be a good one."""
        if self.process.wait() != 0:
            raise RuntimeError(f"ended with {self.process.returncode}: {self._said.read_text()}")


def last_step(workdir: Path) -> int:
    """The newest step in the log."""
    path = workdir / "log.jsonl"
    steps = re.findall(r'^\{"step": (\d+), .*\}$', path.read_text(), re.M) if path.exists() else []
    return int(steps[-1]) if steps else 0


def soak(plan: Plan) -> Findings:
    """Runs twice, once undisturbed."""
    began = time.monotonic()
    whole = Life(plan, plan.out / "whole", 0)
    is_running = whole.first_step()
    start = time.monotonic() - began
    whole.end()
    if not is_running:
        raise RuntimeError("the run was over before it was seen; expected more steps")
    steps = time.monotonic() - began - start
    draw = random.Random(plan.seed)
    workdir, kills, waiting = plan.out / "killed", list[Kill](), list[tuple[int, int | None]]()
    number = 0
    while number < plan.kills:
        life = Life(plan, workdir, number)
        if draw.random() < IN_START:
            time.sleep(draw.random() * start)
        elif life.first_step():
            time.sleep(draw.random() * 1.2 * steps / plan.kills)
        if life.process.poll() is not None:
            life.end()  # done before all kills were dealt
            break
        life.kill()
        kills += costs(waiting, life.resumed())
        reached = last_step(workdir)
        waiting.append((reached, unfinished(workdir, reached, plan.save)))
        number += 1
    life = Life(plan, workdir, number)
    life.end()
    kills += costs(waiting, life.resumed())
    differs = differing(plan.out / "whole", workdir)
    return Findings(tuple(kills), differs, goodput(workdir))


def costs(waiting: list[tuple[int, int | None]], resumed: int | None) -> list[Kill]:
    """What the kills cost that wait for a start that got as far as to say where."""
    if resumed is None:
        return []
    done = [Kill(reached, saving, resumed) for reached, saving in waiting]
    waiting.clear()
    return done


def unfinished(workdir: Path, reached: int, save: int) -> int | None:
    """The step of the save that was being written: it does not stand under its final name.

    A save waits for the one before it, so that this may be the one before the last that was due,
    if the step that was reached is the last one's own.
    """
    due = reached // save * save
    steps = (due - save, due) if reached == due else (due,)
    if due == 0 or (workdir / "checkpoints" / str(due)).exists():
        return None
    return next(
        step for step in steps if step > 0 and not (workdir / "checkpoints" / str(step)).exists()
    )


def differing(one: Path, other: Path) -> tuple[str, ...]:
    """Names of the arrays whose checksums differ between the last checkpoints of two runs."""
    from ft_jax.checkpoints.manager import Manager

    found = []
    for workdir in (one, other):
        manager = Manager(workdir, keep=sys.maxsize)
        saved = manager.restore()
        manager.close()
        assert saved is not None
        sums = {f"{item}{leaf}": value for item, leaves in saved.meta["checksums"].items()
                for leaf, value in leaves.items()}  # fmt: skip
        found.append({"step": saved.step, **sums})
    first, second = found
    names = sorted(first.keys() | second.keys())
    return tuple(name for name in names if first.get(name) != second.get(name))


def goodput(workdir: Path) -> float:
    """The share of productive time that the run itself has booked."""
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    return [line["goodput"]["share"] for line in lines if "goodput" in line][-1]


def table(plan: Plan, found: Findings) -> str:
    """What came out, for benchmarks/RESULTS.md."""
    lost = [kill.reached - kill.resumed for kill in found.kills]
    rows = [
        ["kills", str(len(found.kills))],
        [
            "of these while a save was being written",
            str(sum(k.saving is not None for k in found.kills)),
        ],
        ["steps between saves", str(plan.save)],
        ["steps lost, mean and most", f"{sum(lost) / max(len(lost), 1):.1f}, {max([0, *lost])}"],
        ["beyond what may be lost", str(sum(kill.excess(plan.save) for kill in found.kills))],
        ["arrays that differ in the end", str(len(found.differs))],
        ["goodput booked by the killed run", f"{found.goodput:.0%}"],
    ]
    head = f"`python benchmarks/soak.py --kills {plan.kills}` on {results.machine()}"
    return f"{head}\n\n{results.table(['', ''], rows)}"


def records(folder: Path, count: int = 64) -> Path:
    """A data set of chance for the tiny model."""
    import ml_dtypes
    import numpy as np

    from configs import models
    from data_pipeline import schema
    from data_pipeline.build import dataset
    from ft_jax.config import build
    from ft_jax.models import system as systems

    made = build(systems.System, models.get_config("tiny").to_dict(), "tiny")
    t, h, w, c = systems.latent_shape(made, made.frames)
    sizes = {"t": t, "h": h, "w": w, "c": c, "f": made.frames, "i": made.image.tokens}
    sizes |= {"ci": made.image.width, "cs": made.denoiser.dit.text_width, "s": 4, "a": 8}
    sizes |= {"ca": made.speech.width, "ce": made.face.width, "points": 3, "joints": 2}
    sizes |= {"quality": len(schema.QUALITY), "x": 32}
    types = {"str": str, "int": int, "float": float, "bfloat16": ml_dtypes.bfloat16}

    def record(number: int) -> dict[str, Any]:
        rng, result = np.random.default_rng(number), dict[str, Any]()
        for field in schema.RECORD.fields:
            kind = types.get(field.dtype, field.dtype)
            shape = [int(part) if part.isdigit() else sizes[part] for part in field.dims.split()]
            is_whole = "int" in field.dtype
            values = rng.integers(0, 100, shape) if is_whole else rng.normal(size=shape)
            result[field.name] = values.astype(kind) if shape else kind(number)
        known = {"schema": schema.VERSION, "frames": made.frames}
        return result | known | {"height": made.height, "width": made.width}

    widths = {letter: sizes[letter] for letter in schema.RECORD.widths}
    rows = [schema.encode(schema.RECORD, record(number), widths) for number in range(count)]
    metadata = {"kind": "records", "schema": schema.VERSION, "widths": widths, "encoders": {}}
    dataset.write(folder, schema.RECORD, rows, {"metadata": metadata}, count, 1)
    return folder


def parse(arguments: Sequence[str]) -> Plan:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "soak")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--save", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("rest", nargs="*", help="after --: flags of ft_jax.cli.train")
    given = parser.parse_args(arguments)
    flags = given.rest or [
        "--config=configs/base_i2v.py:tiny",
        f"--config.data.path={records(given.out / 'records')}",
    ]
    command = (sys.executable, "-m", "ft_jax.cli.train", *flags)
    every = (f"--config.every.save={given.save}", "--config.every.log=1")
    command += (*every, f"--config.num_steps={given.steps}", "--config.every.evaluate=0")
    return Plan(given.out, command, given.save, given.kills, given.seed)


def main() -> int:
    """Runs, prints, and writes the section of RESULTS.md."""
    plan = parse(sys.argv[1:])
    if any((plan.out / name).exists() for name in ("whole", "killed")):
        print(f"{plan.out}: holds earlier runs; expected an empty folder", file=sys.stderr)
        return 2
    found = soak(plan)
    print(table(plan, found))
    for name in found.differs:
        print(f"differs: {name}", file=sys.stderr)
    results.write("Killed and resumed", table(plan, found))
    return 0 if found.holds(plan.save) else 1


if __name__ == "__main__":
    sys.exit(main())
