r"""Will it fit, how fast, on which mesh: compiles the real training step for a pod, on any machine.

  python -m ft_jax.cli.plan --config=configs/stage1_clip.py:wan_14b --topology=v5p:4x4x4 \
      --config.mesh.rules=replicated --config.model.denoiser.dit.remat=attention
  python -m ft_jax.cli.plan --config=configs/stage1_clip.py:tiny --topology=local --json=plan.json

  python -m ft_jax.cli.plan --config=... --topology=v6e:8x8 --search=12 --json=search.json

Prints memory of a device, operations and how many are recomputed, bytes through its memory, every
exchange between devices, and the least time of a step. Topologies are v5e, v5p, v6e and tpu7x with
their size in chips, and `local`: the devices of this machine. Pods need the extra `plan`.

A search compiles the step on other meshes, with other remat policies and batch sizes, and prints
those that no other beats in both speed and memory. It goes on where its file ends.

Tests: tests/cli/plan_test.py.
"""

import copy
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import flags

from ft_jax.cli import (
    entry,
    train,  # defines --config
)

flags.declare_key_flag("config")
_TOPOLOGY = flags.DEFINE_string("topology", "local", "Pod (v6e:8x8, v5p:4x4x4, ...) or 'local'.")
_SEARCH = flags.DEFINE_integer(
    "search", 0, "Compile up to so many other meshes, remat policies and batch sizes.", 0
)
_JSON = flags.DEFINE_string("json", None, "File that gets the numbers as JSON.")


def prepared(settings: dict[str, Any], devices: list[Any]) -> tuple[Any, Any, Any]:
    """(step, stage, run) of these settings; nothing is traced yet.

    Raises:
      UsageError: A setting does not fit.
    """
    from ft_jax.config import build
    from ft_jax.errors import UsageError
    from ft_jax.models.system import System
    from ft_jax.plan import program
    from ft_jax.sharding import mesh as meshes

    run, stage, data = train.prepare(settings)
    system = build(System, settings["model"], "config.model")
    if stage.reads.kind != "records":
        raise UsageError(f"config.stage: got {run.stage!r}; expected base, clip or frame")
    shapes = program.record(system, stage.reads.fields, data.batch_size)
    return program.step(run, stage, shapes, meshes.make(run.mesh, devices)), stage, run


def examine(settings: dict[str, Any], devices: list[Any], chip: Any) -> dict[str, Any]:
    """Compiles the step of these settings for `devices` and reports on it.

    Raises:
      UsageError: A setting does not fit.
    """
    from ft_jax.plan import program, report

    step, stage, run = prepared(settings, devices)
    plain = copy.deepcopy(settings)
    plain["model"]["denoiser"]["dit"]["remat"] = "none"
    traced, least = step.trace(), prepared(plain, devices)[0]
    counted = report.Counted(
        program.useful(step, stage), step.executed(traced), least.executed(least.trace())
    )
    lowered = step.lower(traced)
    compiled = step.compile(lowered)
    return report.report(step, counted, lowered, compiled, chip, run.num_steps)


def main(arguments: list[str]) -> int | None:
    """Flags, then one call."""
    from ft_jax.errors import UsageError
    from ft_jax.plan import topology

    if arguments:
        raise UsageError(f"{arguments[0]}: no such argument; expected flags only (see --help)")
    target = Path(_JSON.value) if _JSON.value else None
    if target is not None and not target.absolute().parent.is_dir():
        raise UsageError(f"--json: no folder {target.parent}; expected a file in an existing one")
    settings = entry.need("config", "a config file").to_dict()
    pod = None if _TOPOLOGY.value == topology.LOCAL else topology.parse(_TOPOLOGY.value)
    if pod is not None:
        _enter(topology.environment(pod, os.environ.get("PYTHONPATH", "")))
        topology.need_compiler()
    import jax

    devices = list(jax.devices() if pod is None else topology.devices(pod))
    head = {"topology": _TOPOLOGY.value, "device": devices[0].device_kind}
    print(f"{head['topology']}: {len(devices)} x {head['device']}")
    if _SEARCH.value:
        if pod is None:
            raise UsageError("--search: of 'local'; expected a --topology whose speed is known")
        _search(settings, devices, pod.chip, head, target)
        return None
    from ft_jax.plan import report

    found = {**head, **examine(settings, devices, pod.chip if pod else None)}
    print(report.lines(found))
    _write(target, found)
    return None


def searched(
    settings: dict[str, Any], devices: list[Any], chip: Any, limit: int, known: list[Any]
) -> Iterator[dict[str, Any]]:
    """Rows of up to `limit` candidates that are not known; each has `fits`, and what fits a report.

    Raises:
      UsageError: A setting does not fit, whatever the candidate.
    """
    import jax

    from ft_jax.plan import search

    tried = {search.Candidate(**row["candidate"]): row["fits"] for row in known}
    left = limit
    for one in search.candidates(len(devices), settings["optim"]["accumulate"]):
        failed = [other for other, fits in tried.items() if not fits]
        if one in tried or search.hopeless(one, failed) or not left:
            continue
        changed, found = one.applied(settings), dict[str, Any]()
        if search.given(prepared(changed, devices)[0].arguments) <= chip.memory:
            left -= 1
            try:
                found = examine(changed, devices, chip)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
        tried[one] = bool(found)
        yield {"candidate": dataclasses.asdict(one), "fits": bool(found), **found}


def _search(
    settings: dict[str, Any], devices: list[Any], chip: Any, head: Any, target: Path | None
) -> None:
    """Prints each row as it comes, and the best in the end; keeps them in `target`."""
    from ft_jax.errors import UsageError
    from ft_jax.plan import report, search

    asked = {**head, "settings": json.loads(json.dumps(settings))}
    rows = list[Any]()
    if target is not None and target.exists():
        before = json.loads(target.read_text())
        rows = before.pop("rows", [])
        if before != asked:
            raise UsageError(f"--json: {target} is of other settings; expected a new file")
    for row in searched(settings, devices, chip, _SEARCH.value, rows):
        rows.append(row)
        print(report.row(row), flush=True)
        _write(target, {**asked, "rows": rows})
    print("not beaten in both speed and memory:")
    for row in search.front(rows):
        print(report.row(row))


def _write(target: Path | None, found: Any) -> None:
    if target is not None:
        beside = target.with_name(f"{target.name}.tmp")
        beside.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(beside, target)


def _enter(environment: Any) -> None:
    """The command once more with what must be set before a process starts, unless it is."""
    if any(os.environ.get(name) != value for name, value in environment.items()):
        command = [sys.executable, "-m", "ft_jax.cli.plan", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **environment})


if __name__ == "__main__":
    entry.run(main)
