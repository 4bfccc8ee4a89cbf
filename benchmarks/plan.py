"""The steps that pods are to run, compiled for them: do they fit, how fast can they be.

    python -m benchmarks.plan                     rows that are missing or stale, then the table
    python -m benchmarks.plan --only v5p-clip     these anew
    python -m benchmarks.plan --table             the table alone

Every row is one `python -m ft_jax.cli.plan`, minutes each on two cores; it needs the extra `plan`.
Results are kept in benchmarks/plan.json with the settings and the key of the program they are of;
a row whose program is another one by now is stale.

Goals: memory at most 85 % of the device, recomputation at most 1.25, exposed exchanges at most 5 %
of the arithmetic, utilisation of at least 60 % on v5p and 55 % on v6e and tpu7x.
Tests: tests/benchmarks/plan_test.py.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import results

PATH = Path(__file__).resolve().parent / "plan.json"
UTILISATION = {"v5p": 0.60, "v6e": 0.55, "tpu7x": 0.55}  # v5e: reported


@dataclasses.dataclass(frozen=True)
class Row:
    """One step: a config of I2V-14B at 81 frames of 512 x 512, a pod, and how it is split."""

    config: str
    topology: str
    settings: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """Arguments of the planner."""
        flags = [f"--config.{each}" for each in (*ALIKE, *self.settings)]
        return [f"--config=configs/{self.config}.py:wan_14b", f"--topology={self.topology}", *flags]


# Records of 81 frames; self-attention is kept, the rest of a block computed again.
ALIKE = ("model.denoiser.dit.remat=attention",)
WHOLE = ("mesh.rules=replicated",)  # the base fits: no weight ever moves
SPLIT = ("mesh.data=1", "mesh.fsdp=8", "mesh.context=8", "data.batch_size=8")
STAGES = {"clip": "stage1_clip", "frame": "stage2_frame"}
PODS = {
    "v5e": ("v5e:8x8", SPLIT),
    "v5p": ("v5p:4x4x4", (*WHOLE, "data.batch_size=64")),
    "v6e": ("v6e:8x8", SPLIT),
    "tpu7x": ("tpu7x:4x4x4", (*WHOLE, "data.batch_size=128")),
}
ROWS = {
    f"{pod}-{stage}": Row(config, topology, settings)
    for pod, (topology, settings) in PODS.items()
    for stage, config in STAGES.items()
}


def measured(row: Row) -> dict[str, Any]:
    """What the planner says of a row.

    Raises:
      CalledProcessError: It failed; it has said why.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "plan.json"
        command = [sys.executable, "-m", "ft_jax.cli.plan", *row.command, f"--json={target}"]
        subprocess.run(command, check=True)
        found = json.loads(target.read_text())
    return {"command": row.command, "seconds": round(time.monotonic() - began), **found}


def line(name: str, found: Mapping[str, Any]) -> list[str]:
    """One row of the table, goals that are missed in bold."""
    bound, memory = found["bounds"], found["memory"]["share"]
    goal = UTILISATION.get(name.partition("-")[0], 0.0)
    exposed = bound["exposed"] / bound["arithmetic"]
    again = found["flops"]["recomputation"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in found["mesh"].items() if size > 1)

    def told(value: str, is_met: bool) -> str:
        return value if is_met else f"**{value}**"

    return [
        name,
        f"{mesh}, {found['samples']} samples",
        told(f"{memory:.0%}", memory <= 0.85),
        told(f"{again:.3f}", again <= 1.25),
        told(f"{exposed:.1%}", exposed <= 0.05 or not goal),
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
    args = parser.parse_args()
    found = read()
    for name in [] if args.table else args.only or ROWS:
        if args.only or found.get(name, {}).get("command") != ROWS[name].command:
            found[name] = measured(ROWS[name])
            beside = PATH.with_suffix(".new")
            beside.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
            beside.replace(PATH)
    print(table(found))


if __name__ == "__main__":
    main()
