"""Launch files: whole, and with settings that exist."""

import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs import stage1_clip
from ft_jax.training.interrupt import CODE

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SCRIPTS = ("slurm.sbatch", "tpu_vm.sh")
CHIPS_OF_A_HOST = 4


def jobset() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "gke_jobset.yaml").read_text())


def run(script: str, folder: Path, stubs: dict[str, str], *flags: str) -> tuple[int, str]:
    """Exit status of a script whose outer commands are stubs, and what these were called with."""
    for name, body in stubs.items():
        stub = folder / name
        stub.write_text(
            f'#!/usr/bin/env bash\nprintf "%s\\n" "{name} $*" >> {folder}/calls\n{body}\n'
        )
        stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    command = ["bash", str(DEPLOY / script), *flags]
    done = subprocess.run(command, env=environment, cwd=DEPLOY.parent, capture_output=True)
    calls = folder / "calls"
    return done.returncode, calls.read_text() if calls.exists() else ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_shell(script: str):
    subprocess.run(["bash", "-n", str(DEPLOY / script)], check=True)
    assert "\nset -euo pipefail\n" in (DEPLOY / script).read_text()


def test_the_jobset_fills_the_hosts_of_its_topology():
    spec = jobset()["spec"]
    assert (jobset()["apiVersion"], jobset()["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = spec["replicatedJobs"]
    inside = job["template"]["spec"]
    pod = inside["template"]["spec"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    hosts = math.prod(map(int, topology.split("x"))) // CHIPS_OF_A_HOST
    assert inside["completions"] == inside["parallelism"] == hosts
    assert inside["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["google.com/tpu"] == CHIPS_OF_A_HOST
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_jobset_starts_again_unless_the_input_is_wrong():
    spec = jobset()["spec"]
    policy = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"]["values"] for rule in policy] == [[2]]
    assert spec["failurePolicy"]["maxRestarts"] > 0
    (rule,) = spec["failurePolicy"]["rules"]
    assert rule == {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}


@pytest.mark.parametrize("file", ["gke_jobset.yaml", *SCRIPTS])
def test_launch_files_name_settings_that_exist(file: str):
    text = (DEPLOY / file).read_text()
    (name,) = set(re.findall(r"--config=(\S+)", text))
    config = stage1_clip.get_config(name.removeprefix("configs/stage1_clip.py:"))
    keys = re.findall(r"--config\.([\w.]+)=", text)
    assert {"data.path", "init_from"} <= set(keys) and "--workdir=" in text
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value[part]


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (CODE, True), (2, False)])
def test_a_slurm_job_that_was_told_to_stop_queues_again(
    status: int, requeued: bool, tmp_path: Path
):
    stubs = {"srun": f"exit {status}", "scontrol": ""}
    code, calls = run("slurm.sbatch", tmp_path, stubs, "--workdir=a b")
    assert code == status
    assert "srun .venv/bin/python -m ft_jax.cli.train --workdir=a b\n" in calls
    assert ("scontrol requeue 7\n" in calls) == requeued


def test_every_tpu_host_gets_the_tree_and_the_command(tmp_path: Path):
    stubs = {"gcloud": "", "git": ""}
    code, calls = run("tpu_vm.sh", tmp_path, stubs, "pod", "zone-a", "--workdir=a b", "--config=c")
    assert code == 0
    tree, copied, command = calls.split("\n", 2)
    assert tree.startswith("git archive --format=tar.gz")
    assert copied.startswith("gcloud compute tpus tpu-vm scp ")
    assert copied.endswith("pod:ft_jax.tar.gz --zone=zone-a --worker=all")
    assert command.startswith("gcloud compute tpus tpu-vm ssh pod --zone=zone-a --worker=all")
    assert "-m ft_jax.cli.train --workdir=a\\ b --config=c" in command


def test_a_tpu_run_without_flags_is_refused(tmp_path: Path):
    assert run("tpu_vm.sh", tmp_path, {"gcloud": ""}, "pod") == (2, "")
