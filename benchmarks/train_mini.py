r"""The model that ships, again from nothing: every phase by the public commands, in order.

    make train-mini                                          all phases, outputs/train_mini
    python benchmarks/train_mini.py --phases codec,speech    some of them
    python benchmarks/train_mini.py --skip_stage_1 --phases frame,bundle
    python benchmarks/train_mini.py --without_identity       clip, frame and bundle without a branch
    python benchmarks/train_mini.py --set clip.num_steps=500 --set clip.optim.schedule.rate=5e-4

    world pixels pictures crops codec speech alignment face landmarks encoders records base clip
    frame bundle

A phase that is done is left as it is, one that was stopped goes on. Arms (stages or branches left
out) share everything up to `base` and lie in a folder of their own. At the end: the numbers of each
phase, as a table and as numbers.json.

Tests: tests/training/train_mini_test.py.
"""

import argparse
import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

from ft_jax.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
PHASES = (
    "world pixels pictures crops codec speech alignment face landmarks encoders records base clip"
    " frame bundle"
).split()
ENCODERS = ("codec", "speech", "alignment", "face", "landmarks")
EARLIER = {"crops": "pictures", "codec": "crops"}
"""The codec learns in three phases; each starts from this one."""
CONFIGS = {"base": "base_i2v", "clip": "stage1_clip", "frame": "stage2_frame"}
TRAINED = (*EARLIER.values(), *ENCODERS, *CONFIGS)
SHAPES = {"mini": (33, 64, 48), "tiny": (17, 16, 16)}
"""Frames, side of the picture, side of a face crop."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to make, where."""

    out: Path
    size: str
    clips: int
    held_out: int
    workers: int
    seed: int
    skip_stage_1: bool
    skip_stage_2: bool
    without_identity: bool
    without_motion: bool
    settings: tuple[tuple[str, str], ...]  # (phase, key=value)

    @property
    def arm(self) -> Path:
        """Folder of the branches' training: `out` itself for the whole method."""
        flags = ("skip_stage_1", "skip_stage_2", "without_identity", "without_motion")
        names = [flag for flag in flags if getattr(self, flag)]
        return self.out / "arms" / "-".join(names) if names else self.out

    @property
    def bundle(self) -> Path:
        """The file that all this is for."""
        return self.arm / "bundle.safetensors"


def commands(plan: Plan, phase: str) -> list[list[str]]:
    """The public commands of one phase."""
    out, frames, side, face = plan.out, *(str(number) for number in SHAPES[plan.size])
    if phase == "world":
        counts = {"train": plan.clips, "heldout": plan.held_out}
        return [
            module("data_pipeline.world", out=out / "world" / split, clips=count, split=split)
            + flags(seed=plan.seed, frames=frames, workers=plan.workers)
            for split, count in counts.items()
        ]
    if phase in ("pixels", "records"):
        shape = flags(frames=frames, height=side, width=side, face=face, workers=plan.workers)
        if phase == "records":
            shape += flags(weights=out / "encoders.safetensors")
        command = [*module("data_pipeline.build"), phase, *shape]
        return [
            command + flags(clips=out / "world" / split, out=out / phase / split)
            for split in ("train", "heldout")
        ]
    if phase == "encoders":
        return [joined(plan, out / "encoders.safetensors", [out / name for name in ENCODERS])]
    if phase == "bundle":
        encoders = out / "encoders.safetensors"
        last = "clip" if plan.skip_stage_2 else "frame"
        whole = joined(plan, plan.bundle, [encoders, plan.arm / last])
        # What stage 1 had learned, for the demo to compare with: the branches alone.
        earlier = joined(
            plan, plan.arm / "bundle_stage1.safetensors", [encoders, plan.arm / "clip"]
        )
        earlier.append("--keep=denoiser/(audio|identity|motion)/.*")
        return [whole] if plan.skip_stage_1 or plan.skip_stage_2 else [whole, earlier]
    return [] if is_skipped(plan, phase) else [training(plan, phase)]


def training(plan: Plan, phase: str) -> list[str]:
    """The training command of one phase."""
    folder = plan.arm if phase in ("clip", "frame") else plan.out
    data = plan.out / ("records" if phase in CONFIGS else "pixels")
    settings: dict[str, Any] = {
        "seed": plan.seed,
        "data.path": data / "train",
        "data.held_out": data / "heldout",
    }
    if phase in EARLIER:
        settings |= {"init_from": plan.out / EARLIER[phase], "init_require": ".*"}
    if phase == "clip" or (phase == "frame" and plan.skip_stage_1):
        settings |= {"init_from": plan.out / "base", "init_require": "denoiser/dit/.*"}
    elif phase == "frame":
        settings |= {"init_from": plan.arm / "clip"}
    if phase in ("clip", "frame"):
        settings |= {"task.identity": False} if plan.without_identity else {}
        settings |= {"task.motion": False} if plan.without_motion else {}
    command = module(
        "ft_jax.cli.train",
        config=f"configs/{CONFIGS.get(phase, phase)}.py:{plan.size}",
        workdir=folder / phase,
    )
    own = [f"--config.{text}" for name, text in plan.settings if name == phase]
    return command + [f"--config.{key}={value}" for key, value in settings.items()] + own


def joined(plan: Plan, target: Path, sources: Sequence[Path]) -> list[str]:
    """The command that puts parts into one file."""
    command = module("ft_jax.cli.bundle", config=f"configs/models.py:{plan.size}", out=target)
    return command + [str(source) for source in sources]


def is_skipped(plan: Plan, phase: str) -> bool:
    """Whether the arm leaves this phase out."""
    return (phase == "clip" and plan.skip_stage_1) or (phase == "frame" and plan.skip_stage_2)


def module(name: str, **values: Any) -> list[str]:
    """The command: python -m name --key=value ..."""
    return [sys.executable, "-m", name, *flags(**values)]


def flags(**values: Any) -> list[str]:
    """--key=value ..."""
    return [f"--{key}={value}" for key, value in values.items()]


def run(command: list[str]) -> None:
    """Runs one command in the project's folder; a stop is passed on to it.

    Raises:
      SystemExit: It failed, or was told to stop; with its status.
    """
    print("\n$ " + shlex.join(["python", *command[1:]]), flush=True)
    child = subprocess.Popen(command, cwd=ROOT)
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        status = child.wait()
    except KeyboardInterrupt:  # the terminal has told the child too
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        sys.exit(status)


def numbers(plan: Plan) -> dict[str, dict[str, Any]]:
    """What the logs of the phases say: steps, time, last training and held-out metrics."""
    found: dict[str, dict[str, Any]] = {}
    for phase in PHASES:
        folder = plan.arm if phase in ("clip", "frame") else plan.out
        log = folder / phase / "log.jsonl"
        if log.exists():
            found[phase] = summary([json.loads(line) for line in log.read_text().splitlines()])
    for target in (plan.out / "encoders.safetensors", plan.bundle):
        if target.exists():
            found[target.name] = {"megabytes": round(target.stat().st_size / 1e6, 2)}
    return found


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers of one log."""
    steps = [line for line in lines if "step_seconds" in line]
    judged = [line["held_out"] for line in lines if "held_out" in line]
    result: dict[str, Any] = {}
    if steps:
        before = [0, *(line["step"] for line in steps)]
        taken = [
            (line["step"] - start) * line["step_seconds"]
            for line, start in zip(steps, before, strict=False)
        ]
        result = {"steps": steps[-1]["step"], "minutes": round(sum(taken) / 60, 1)}
        result |= {"loss": round(steps[-1]["loss"], 4)}
    if judged:
        result |= {f"held_out_{name}": round(value, 4) for name, value in judged[-1].items()}
    return result


def parse(arguments: Sequence[str] | None = None) -> tuple[Plan, list[str]]:
    """Flags -> (plan, phases).

    Raises:
      UsageError: A phase does not exist, or a setting is not PHASE.KEY=VALUE.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "train_mini")
    parser.add_argument("--phases", default=",".join(PHASES), help="comma-separated; default: all")
    parser.add_argument("--size", choices=sorted(SHAPES), default="mini")
    parser.add_argument("--clips", type=int, default=4800, help="of the training world")
    parser.add_argument("--held_out", type=int, default=320, help="clips of other people")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    for flag in ("skip_stage_1", "skip_stage_2", "without_identity", "without_motion"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="PHASE.KEY=VALUE")
    given = vars(parser.parse_args(arguments))
    phases, changes = given.pop("phases").split(","), given.pop("set")
    if unknown := [phase for phase in phases if phase not in PHASES]:
        raise UsageError(f"--phases: {unknown[0]!r}; expected some of {', '.join(PHASES)}")
    settings = []
    for change in changes:
        phase, dot, text = change.partition(".")
        if not dot or "=" not in text or phase not in TRAINED:
            raise UsageError(f"--set: {change!r}; expected PHASE.KEY=VALUE of a trained phase")
        settings.append((phase, text))
    return Plan(settings=tuple(settings), **given), [p for p in PHASES if p in phases]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the phases and prints the numbers."""
    plan, phases = parse(arguments)
    plan.arm.mkdir(parents=True, exist_ok=True)
    for phase in phases:
        began = time.monotonic()
        for command in commands(plan, phase):
            run(command)
        print(f"== {phase}: {(time.monotonic() - began) / 60:.1f} min", flush=True)
    found = numbers(plan)
    (plan.arm / "numbers.json").write_text(json.dumps(found, indent=1))
    for phase, values in found.items():
        text = "  ".join(f"{name} {value}" for name, value in values.items())
        print(f"{phase:24s} {text}")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(f"ft_jax: {error}", file=sys.stderr)
        sys.exit(2)
