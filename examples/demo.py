r"""The whole method on this machine, in minutes: clips from the shipped model, and its training.

    make demo                                     everything, then open outputs/demo/index.html
    python examples/demo.py --out DIR --weights BUNDLE

A face and speech that the model has never seen are drawn and spoken; clips are generated from them
with other speech, other intensities, and at three times the training length. Then both stages train
on freshly drawn data for about a minute, and the result speaks too. Everything goes through the
package's public commands and API; nothing is fetched. What is done is not done again.

Tests: tests/examples/demo_test.py.
"""

import argparse
import dataclasses
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

from examples.report import write_page
from examples.steps import Failed, Report, Step, Steps
from ft_jax.checkpoints import bundle
from ft_jax.cli import compiled
from ft_jax.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
FACE_SEED, TRAIN_SEED = 100, 4242
COUNT = 9  # of steps


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to make, where.

    Attributes:
      out: Folder of everything; the page is out/index.html.
      weights: The bundle to show.
      size: "mini", or "tiny" for tests.
      clips: Drawn for training.
      steps: Of each stage.
      batch: Clips in a step.
      frames: Of a training clip.
    """

    out: Path
    weights: Path
    size: str = "mini"
    clips: int = 24
    steps: int = 40
    batch: int = 8
    frames: int = 33

    @property
    def stage_1(self) -> Path:
        """Where the branches as stage 1 left them lie, if anywhere: beside the weights."""
        return self.weights.with_name(f"{self.weights.stem}_stage1.safetensors")

    @property
    def long_frames(self) -> int:
        """Of the long clip: three times the training length."""
        return 3 * (self.frames - 1) + 1

    def command(self, module: str, *arguments: object, **flags: object) -> list[str]:
        """`python -m module argument ... --flag=value ...`."""
        named = [f"--{name}={value}" for name, value in flags.items()]
        return [sys.executable, "-m", module, *map(str, arguments), *named]


def world(plan: Plan, out: Path, split: str, clips: int, seed: int, frames: int) -> list[str]:
    """The command that draws clips."""
    return plan.command(
        "data_pipeline.world",
        out=out,
        split=split,
        clips=clips,
        seed=seed,
        frames=frames,
        workers=2,
    )


def training(plan: Plan, stage: str, config: str, init_from: Path) -> list[str]:
    """The command that trains a stage a little."""
    settings = {
        "init_from": init_from,
        "data.path": plan.out / "train" / "records",
        "num_steps": plan.steps,
        "data.batch_size": plan.batch,
        "every.log": 1,
        "every.evaluate": 0,
        "every.save": 0,
        "optim.schedule.rate": 1e-3,  # gentler than from nothing
        "optim.schedule.warmup_steps": max(1, plan.steps // 4),
    }
    flags = [f"--config.{name}={value}" for name, value in settings.items()]
    command = plan.command(
        "ft_jax.cli.train",
        config=ROOT / "configs" / f"{config}.py:{plan.size}",
        workdir=plan.out / "train" / stage,
    )
    return command + flags


def run(plan: Plan, steps: Steps) -> None:
    """All steps in order.

    Raises:
      Failed: A command did.
    """
    draw_face(plan, steps)
    generate(plan, steps)
    fine_tune(plan, steps)
    speak_again(plan, steps)


def draw_face(plan: Plan, steps: Steps) -> None:
    """Held-out clips to take a face and speech from, and longer speech."""
    drawn = plan.out / "heldout"
    for name, title, clips, frames, usual in (
        ("face", "drawing a held-out face and speech", 4, plan.frames, 4),
        ("long", "longer speech", 1, plan.long_frames, 4),
    ):
        command = world(plan, drawn / name, "heldout", clips, FACE_SEED, frames)
        step = Step(name, title, usual, "", makes=[drawn / name / "index.jsonl"])
        steps.run(step, command, environment())


def generate(plan: Plan, steps: Steps) -> None:
    """The clips of the page."""
    step = Step(
        "clips",
        "generating clips",
        60,
        [mark(plan.weights), mark(plan.stage_1)],
        after=["face", "long"],
        makes=[plan.out / "clips.json"],
    )
    steps.call(step, lambda report: speak(report, plan.out, plan.weights, plan.stage_1))


def speak(report: Report, *recipe: Any) -> None:
    """Makes the clips of a recipe (its fields); what that needs is imported only then."""
    from examples.clips import Recipe, make

    make(Recipe(*recipe), report)


def fine_tune(plan: Plan, steps: Steps) -> None:
    """Fresh data, then both stages."""
    folder, around = plan.out / "train", environment()
    command = world(plan, folder / "world", "train", plan.clips, TRAIN_SEED, plan.frames)
    made = [folder / "world" / "index.jsonl"]
    steps.run(Step("world", "drawing clips to train on", 8, "", makes=made), command, around)
    command = plan.command(
        "data_pipeline.build",
        "records",
        clips=folder / "world",
        weights=plan.weights,
        out=folder / "records",
        frames=plan.frames,
        workers=2,
    )
    if plan.size == "tiny":
        command += ["--height=16", "--width=16", "--face=16"]
    made = [folder / "records"]
    weights = mark(plan.weights)
    step = Step("records", "annotating and encoding them", 30, weights, ["world"], made, made)
    steps.run(step, command, around)
    for stage, config, start, after in (
        ("clip", "stage1_clip", plan.weights, "records"),
        ("frame", "stage2_frame", folder / "clip", "clip"),
    ):
        title = f"training stage {1 if stage == 'clip' else 2}, {plan.steps} steps"
        made, clears = [folder / stage / "log.jsonl"], [folder / stage]
        step = Step(stage, title, 35, weights, [after], made, clears)
        steps.run(step, training(plan, stage, config, start), around)


def speak_again(plan: Plan, steps: Steps) -> None:
    """The tuned model as a bundle, and a clip from it."""
    tuned = plan.out / "train" / "tuned.safetensors"
    command = plan.command(
        "ft_jax.cli.bundle",
        plan.weights,
        plan.out / "train" / "frame",
        config=ROOT / "configs" / f"models.py:{plan.size}",
        out=tuned,
    )
    step = Step("bundle", "putting the trained parts together", 5, "", ["frame"], [tuned])
    steps.run(step, command, environment())
    recipe = (plan.out, tuned, None, ("tuned",), "tuned.json")
    made = [plan.out / "tuned.json"]
    step = Step("tuned", "a clip from the tuned model", 12, "", ["bundle", "clips"], made)
    steps.call(step, lambda report: speak(report, *recipe))


def environment() -> dict[str, str]:
    """For the commands: find this project, and say at once what is done."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
    }


def mark(path: Path) -> str:
    """What tells one file of weights from another, without reading all of it."""
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path.exists() else "none"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the steps and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "demo")
    parser.add_argument("--weights", type=Path, default=bundle.SHIPPED, help="a bundle")
    args = parser.parse_args(argv)
    compiled.keep()
    bundle.check(args.weights)
    plan = Plan(args.out.resolve(), args.weights.resolve())
    plan.out.mkdir(parents=True, exist_ok=True)
    steps = Steps(plan.out, COUNT)
    run(plan, steps)
    page = write_page(plan.out, facts(plan, steps))
    print(f"\n{page}\nopen it in a browser; the clips play with sound")


def facts(plan: Plan, steps: Steps) -> dict[str, Any]:
    """What the page says about the runs so far; the memory is kept for runs that reuse all."""
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    # This process and the largest command: they run side by side.
    peak = sum(resource.getrusage(who).ru_maxrss for who in usage)
    peak_gib = peak / (2**30 if sys.platform == "darwin" else 2**20)
    kept = plan.out / "facts.json"
    if kept.is_file():
        peak_gib = max(peak_gib, json.loads(kept.read_text())["peak_gib"])
    found = {
        "steps": steps.seconds,
        "cores": os.cpu_count(),
        "machine": platform.platform(terse=True),
        "peak_gib": peak_gib,
        "weights": None if plan.weights == bundle.SHIPPED else str(plan.weights),
    }
    kept.write_text(json.dumps(found))
    return found


def leave(number: int, frame: object) -> None:
    """Told to stop: ends the command that runs, too."""
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, leave)
    try:
        main()
    except (UsageError, Failed) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; the same command goes on")
