"""The steps that pods are to run, compiled for them: do they fit, how fast can they be.

    python -m benchmarks.plan                     rows that are missing or stale, then the table
    python -m benchmarks.plan --only v5p-clip     these anew
    python -m benchmarks.plan --table             the table alone; --write puts it into RESULTS.md

Every row is one `python -m ft_jax.cli.plan`, minutes each on two cores; it needs the compiler for
TPUs (the extra `plan`, or what `make test` installs). Results are kept in benchmarks/plan.json with
the key of the program they are of. A row whose program is another one by now is stale, and a test
fails: programs are traced and lowered for that, seconds each, and not compiled.

Goals: memory at most 85 % of the device, recomputation at most 1.25, with adapters exposed
exchanges at most 5 % of the arithmetic, utilisation of at least 60 % on v5p, 55 % on v6e, tpu7x.
Tests: tests/benchmarks/plan_test.py.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import results

ROOT = Path(__file__).resolve().parent.parent
PATH = ROOT / "benchmarks" / "plan.json"
TITLE = "Steps of I2V-14B on pods, by their compiled programs"
UTILISATION = {"v5p": 0.60, "v6e": 0.55, "tpu7x": 0.55}  # v5e: reported


@dataclasses.dataclass(frozen=True)
class Row:
    """One step: a config of I2V-14B at 81 frames of 512 x 512, a pod, and how it is split."""

    config: str
    topology: str
    settings: tuple[str, ...]

    @property
    def flags(self) -> list[str]:
        """The config, as a command is given it."""
        settings = [f"--config.{each}" for each in (*ALIKE, *self.settings)]
        return [f"--config={ROOT}/configs/{self.config}.py:wan_14b", *settings]


DIT = "model.denoiser.dit"
ALIKE = (f"{DIT}.remat=attention",)
WHOLE = ("mesh.rules=replicated", "mesh.fsdp=16")  # the base fits: only states are split
STAGES = {"clip": "stage1_clip", "frame": "stage2_frame"}
PODS = {
    "v5e": (
        "v5e:8x8",
        (
            "mesh.rules=sliced",
            "mesh.fsdp=16",
            "mesh.context=4",
            "data.batch_size=16",
            f"{DIT}.residual=bfloat16",
        ),
    ),
    "v5p": ("v5p:4x4x4", (*WHOLE, "data.batch_size=64")),
    "v6e": ("v6e:8x8", ("mesh.fsdp=32", "mesh.context=2", "data.batch_size=32")),
    "tpu7x": ("tpu7x:4x4x4", (*WHOLE, "data.batch_size=128")),
}
SPLIT, WIDE = ("mesh.fsdp=16", "mesh.context=4"), ("mesh.fsdp=64", "mesh.context=4")
LARGE = ("model.height=720", "model.width=1280")
ROWS = {
    f"{pod}-{stage}": Row(config, topology, settings)
    for pod, (topology, settings) in PODS.items()
    for stage, config in STAGES.items()
} | {
    "v5p-full": Row("stage1_clip", "v5p:4x4x4", ("train=full", *SPLIT, "data.batch_size=32")),
    "v6e-full": Row("stage1_clip", "v6e:16x16", ("train=full", *WIDE, "data.batch_size=64")),
    "tpu7x-full": Row(
        "stage1_clip",
        "tpu7x:4x4x4",
        ("train=full", "mesh.fsdp=16", "data.batch_size=256", f"{DIT}.residual=bfloat16"),
    ),
    "v5p-720p": Row("stage1_clip", "v5p:4x4x4", (*LARGE, *SPLIT, "data.batch_size=16")),
}


def keys(names: Iterable[str]) -> dict[str, str]:
    """Of the programs that these rows are by now; needs the environment of `topology`."""
    from absl import flags
    from ml_collections import config_flags

    from ft_jax.cli import plan
    from ft_jax.plan import report, topology

    found = {}
    for name in names:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        sys.argv = ["plan", *ROWS[name].flags]  # it looks for its settings there itself
        values(sys.argv)
        pod = topology.parse(ROWS[name].topology)
        step = plan.prepared(values.config.to_dict(), topology.devices(pod))[0]
        found[name] = report.key(step.lower(step.trace()).as_text(), step.options)
    return found


def stale(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rows that are missing, or whose program is not the one that was measured."""
    from ft_jax.plan import topology

    path = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, **topology.environment(topology.parse("v6e:2x2"), path)}
    command = [sys.executable, "-m", "benchmarks.plan", "--keys"]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    now = json.loads(done.stdout)
    return [name for name in ROWS if found.get(name, {}).get("program") != now[name]]


def measured(row: Row) -> dict[str, Any]:
    """What the planner says of a row.

    Raises:
      CalledProcessError: It failed; it has said why.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "plan.json"
        asked = [*row.flags, f"--topology={row.topology}", f"--json={target}"]
        subprocess.run([sys.executable, "-m", "ft_jax.cli.plan", *asked], check=True, cwd=ROOT)
        found = json.loads(target.read_text())
    told = {"config": f"configs/{row.config}.py:wan_14b", "settings": [*ALIKE, *row.settings]}
    return {**told, "jax": version("jax"), "seconds": round(time.monotonic() - began), **found}


def line(name: str, found: Mapping[str, Any]) -> list[str]:
    """One row of the table, goals that are missed in bold."""
    bound, memory = found["bounds"], found["memory"]["share"]
    goal = UTILISATION.get(name.partition("-")[0], 0.0)
    exposed, waits = bound["exposed"] / bound["arithmetic"], goal and name.endswith(tuple(STAGES))
    again = found["flops"]["recomputation"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items() if size > 1)

    def told(value: str, is_met: bool) -> str:
        return value if is_met else f"**{value}**"

    return [
        name,
        f"{mesh}, {found['samples']} samples",
        told(f"{memory:.0%}", memory <= 0.85),
        told(f"{again:.3f}", again <= 1.25),
        told(f"{exposed:.1%}", exposed <= 0.05 or not waits),
        told(f"{bound['useful']:.1%}", bound["useful"] >= goal),
        bound["binding"],
        f"{bound['step']:.2f}",
        f"{bound['days']:.0f}",
    ]


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """All rows that there are."""
    header = [
        "", "mesh", "memory", "recomputation", "exposed", "utilisation at best", "bound by",
        "step, s", "days",
    ]  # fmt: skip
    return results.table(header, [line(name, found[name]) for name in ROWS if name in found])


def read() -> dict[str, Any]:
    """The kept results."""
    return json.loads(PATH.read_text()) if PATH.exists() else {}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=ROWS, nargs="+", help="these rows, anew")
    parser.add_argument("--table", action="store_true", help="print what is kept")
    parser.add_argument("--keys", action="store_true", help="print what names the programs now")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    args = parser.parse_args()
    if args.keys:
        print(json.dumps(keys(ROWS)))
        return
    found = {name: row for name, row in read().items() if name in ROWS}
    for name in [] if args.table else args.only or stale(found):
        print(f"== {name}", flush=True)
        found[name] = measured(ROWS[name])
        beside = PATH.with_suffix(".new")
        beside.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        beside.replace(PATH)
    print(table(found))
    if args.write:
        results.write(TITLE, f"`python -m benchmarks.plan --write`\n\n{table(found)}")


if __name__ == "__main__":
    main()
