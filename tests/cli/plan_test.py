"""The command: numbers of a small step on this machine, and what it says to wrong input."""

import json
import os
import subprocess
import sys

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from configs import codec, stage1_clip
from ft_jax.cli import entry, plan
from ft_jax.errors import UsageError
from ft_jax.plan.chips import CHIPS


@pytest.fixture
def run(monkeypatch, tmp_path):
    """The command with flags, on the tiny config or another."""

    def start(config=None, **given):
        if not flags.FLAGS.is_parsed():
            flags.FLAGS(["plan"])
        config = stage1_clip.get_config("tiny") if config is None else config
        monkeypatch.setattr(entry, "need", lambda name, expected: config)
        with flagsaver.flagsaver(**{"topology": "local", "json": None, **given}):
            return plan.main([])

    return start


@pytest.fixture(scope="module")
def known():
    """Numbers of the tiny step, as if this machine were a chip."""
    settings = stage1_clip.get_config("tiny").to_dict()
    return plan.examine(settings, jax.devices()[:1], CHIPS["v5e"])


def test_the_local_devices_are_reported_and_written(run, known, tmp_path, capsys, monkeypatch):
    target, asked = tmp_path / "plan.json", []

    def examine(settings, devices, chip):
        asked.append((settings["stage"], devices, chip))
        return {key: value for key, value in known.items() if key != "bounds"}

    monkeypatch.setattr(plan, "examine", examine)
    run(json=str(target))
    assert asked == [("clip", jax.devices(), None)]
    printed, found = capsys.readouterr().out, json.loads(target.read_text())
    assert "recomputation x" in printed and "samples a step" in printed
    assert found["topology"] == "local" and found["device"] == "cpu" and found["devices"] == 1
    assert found["flops"]["compiled"] == pytest.approx(found["flops"]["executed"], rel=0.02)
    assert found["flops"]["useful"] < found["flops"]["executed"]
    assert found["memory"]["arguments"] > 0 and found["hbm_bytes"] > 0
    assert found["collectives"] == [] and "bounds" not in found
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_what_is_known_of_a_chip_bounds_the_step(known):
    found, bound, chip = known, known["bounds"], CHIPS["v5e"]
    assert bound["arithmetic"] == pytest.approx(found["flops"]["executed"] / chip.peak)
    assert bound["memory"] == pytest.approx(found["hbm_bytes"] / chip.bandwidth)
    assert bound["binding"] == "memory" and bound["step"] == bound["memory"]
    assert bound["samples_per_hour"] == pytest.approx(2 / bound["step"] * 3600)
    assert bound["days"] == pytest.approx(4 * bound["step"] / 86400)
    assert found["memory"]["share"] == found["memory"]["peak"] / chip.memory


def test_another_stage_is_refused(run):
    with pytest.raises(UsageError, match=r"config\.stage: got 'codec'"):
        run(codec.get_config("tiny"))


def test_a_folder_that_is_not_there_is_named_before_anything_is_compiled(run):
    with pytest.raises(UsageError, match="--json: no folder"):
        run(json="/no/such/folder/plan.json")


def test_a_wrong_topology_is_one_line_and_exit_status_2():
    command = [sys.executable, "-m", "ft_jax.cli.plan", "--topology=v9:8x8"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "--topology: got 'v9:8x8'" in done.stderr


def test_a_pod_needs_its_compiler(run, monkeypatch):
    monkeypatch.setattr(plan, "_enter", lambda environment: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="libtpu: not installed"):
        run(topology="v6e:2x2")
