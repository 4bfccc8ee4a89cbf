"""What is kept of the pods: of the programs that are, and a small one compiled for a real chip."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from benchmarks import plan
from ft_jax.plan import topology


def test_every_row_is_kept_with_the_settings_it_has():
    found = plan.read()
    assert set(found) == set(plan.ROWS)
    for name, row in plan.ROWS.items():
        assert found[name]["settings"] == [*plan.ALIKE, *row.settings]
        assert found[name]["topology"] == row.topology


def test_the_kept_results_are_those_of_the_programs_there_are():
    """Where jax is the one they were made with; mended by `python -m benchmarks.plan`."""
    found = plan.read()
    made_with = {row["jax"] for row in found.values()}
    assert len(made_with) == 1
    if made_with == {version("jax")}:
        assert plan.stale(found) == []


def test_a_row_of_another_program_is_stale(monkeypatch):
    name = "v5p-clip"
    monkeypatch.setattr(plan, "ROWS", {name: plan.ROWS[name]})
    answer = subprocess.CompletedProcess((), 0, json.dumps({name: "new"}))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert plan.stale({}) == plan.stale({name: {"program": "old"}}) == [name]
    assert plan.stale({name: {"program": "new"}}) == []


def test_goals_that_are_missed_stand_out():
    row = json.loads(plan.PATH.read_text())["v5p-clip"]
    assert "**" not in "".join(plan.line("v5p-clip", row))
    full = {**row, "memory": {**row["memory"], "share": 0.86}}
    assert "**86%**" in plan.line("v5p-clip", full)
    waits = {**row, "bounds": {**row["bounds"], "exposed": 0.06 * row["bounds"]["arithmetic"]}}
    assert "**6.0%**" in plan.line("v6e-clip", waits) and "6.0%" in plan.line("v5e-clip", waits)


BLOCKS = 3


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Numbers of three blocks of 1024 on four real chips, through the command."""
    target = tmp_path_factory.mktemp("plan") / "plan.json"
    dit = {"width": 1024, "layers": BLOCKS, "heads": 8, "mlp_width": 2048, "remat": "attention"}
    flags = [f"--config.model.denoiser.dit.{key}={value}" for key, value in dit.items()]
    flags += ["--config.model.height=128", "--config.model.width=256", "--config.model.frames=17"]
    flags += [
        "--config.mesh.fsdp=4",
        "--config.data.batch_size=4",
        "--topology=v6e:2x2",
        f"--json={target}",
    ]
    command = [sys.executable, "-m", "ft_jax.cli.plan", "--config=configs/stage1_clip.py:wan_14b"]
    path = os.environ.get("PYTHONPATH", "")
    environment = {**os.environ, **topology.environment(topology.parse("v6e:2x2"), path)}
    environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        [*command, *flags],
        cwd=plan.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text())


def test_a_small_pod_compiles_with_the_options_of_its_kind(small):
    assert small["device"] == "TPU v6 lite" and small["devices"] == 4
    assert small["memory"]["share"] < 0.85
    assert small["flops"]["compiled"] == pytest.approx(small["flops"]["executed"], rel=0.02)


def test_the_attention_whose_result_is_kept_runs_once_there_and_its_backward_pass_is_one_kernel(
    small,
):
    """640 tokens hear themselves, 512 of text, 257 of the picture, speech and identity."""
    runs = {(row["kernel"], row["queries"], row["keys"]): row["runs"] for row in small["kernels"]}
    own = {kernel: times for (kernel, _, keys), times in runs.items() if keys == 640}
    assert own == {"splash_mha_fwd": BLOCKS, "splash_mha_dkv": BLOCKS}
    backward = sum(times for (kernel, *_), times in runs.items() if kernel == "splash_mha_dkv")
    assert backward == 5 * BLOCKS


def test_there_weights_are_gathered_and_activations_stay(small):
    kinds = {row["kind"] for row in small["collectives"] if row["bytes"] > 2**20}
    assert "all-gather" in kinds and kinds <= {"all-gather", "all-reduce", "reduce-scatter"}
