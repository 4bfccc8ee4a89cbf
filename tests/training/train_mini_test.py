import json
from pathlib import Path

import pytest

from benchmarks import train_mini
from ft_jax.errors import UsageError


def plan(*arguments: str) -> tuple[train_mini.Plan, list[str]]:
    return train_mini.parse(["--out", "OUT", *arguments])


def lines(*arguments: str) -> dict[str, list[str]]:
    made, phases = plan(*arguments)
    root = str(train_mini.ROOT)
    return {
        phase: [" ".join(c[1:]).replace(root, "") for c in train_mini.commands(made, phase)]
        for phase in phases
    }


def test_every_phase_feeds_the_next():
    made = lines()
    assert list(made) == train_mini.PHASES
    assert "--out=OUT/world/heldout" in made["world"][1] and "split=heldout" in made["world"][1]
    assert "data_pipeline.build records" in made["records"][0]
    assert "--weights=OUT/encoders.safetensors" in made["records"][0]
    assert made["encoders"][0].endswith("OUT/codec OUT/speech OUT/alignment OUT/face OUT/landmarks")
    assert "init_from" not in made["base"][0] and "init_from" not in made["pictures"][0]
    assert "--config.init_from=OUT/pictures" in made["crops"][0]
    assert "--config.init_from=OUT/crops" in made["codec"][0]
    assert "--config.init_from=OUT/base" in made["clip"][0]
    assert "--config.init_from=OUT/clip" in made["frame"][0]
    assert made["bundle"][0].endswith("OUT/encoders.safetensors OUT/frame")
    assert "OUT/encoders.safetensors OUT/clip" in made["bundle"][1]


def test_training_never_sees_what_is_held_out():
    for phase, commands in lines().items():
        for command in commands:
            for word in command.split():
                if word.startswith("--config.data.path"):
                    assert word.endswith("/train"), phase
                if word.startswith("--config.data.held_out="):
                    assert word.endswith("/heldout"), phase


def test_skipping_stage_one_starts_stage_two_from_the_base():
    made = lines("--skip_stage_1")
    assert made["clip"] == []
    assert "--config.init_from=OUT/base" in made["frame"][0]
    assert "--config.init_require=denoiser/dit/.*" in made["frame"][0]
    assert "OUT/arms/skip_stage_1/frame" in made["bundle"][0]


def test_skipping_stage_two_bundles_stage_one():
    made = lines("--skip_stage_2")
    assert made["frame"] == [] and "OUT/arms/skip_stage_2/clip" in made["bundle"][0]


@pytest.mark.parametrize("branch", ["identity", "motion"])
def test_an_arm_without_a_branch_shares_the_base_and_nothing_else(branch):
    made = lines(f"--without_{branch}")
    for phase in ("clip", "frame"):
        assert f"--config.task.{branch}=False" in made[phase][0]
        assert f"--workdir=OUT/arms/without_{branch}/{phase}" in made[phase][0]
    assert made["base"] == lines()["base"] and made["codec"] == lines()["codec"]


def test_settings_reach_their_phase_alone():
    made = lines("--set", "clip.num_steps=5", "--set", "codec.optim.schedule.rate=1e-4")
    assert made["clip"][0].endswith("--config.num_steps=5")
    assert made["codec"][0].endswith("--config.optim.schedule.rate=1e-4")
    assert "num_steps" not in made["frame"][0]


@pytest.mark.parametrize(
    "arguments", [["--phases", "codec,lips"], ["--set", "clip"], ["--set", "world.clips=1"]]
)
def test_what_does_not_exist_is_refused(arguments):
    with pytest.raises(UsageError, match=f"--{arguments[0][2:]}"):
        train_mini.parse(arguments)


def test_numbers_come_from_the_logs(tmp_path):
    made, _ = train_mini.parse(["--out", str(tmp_path)])
    folder = Path(tmp_path) / "codec"
    folder.mkdir()
    rows = [
        {"step": 20, "loss": 2.0, "step_seconds": 3.0},
        {"step": 30, "loss": 1.0, "step_seconds": 6.0},
        {"step": 30, "held_out": {"loss": 1.5, "psnr": 30.0}},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = train_mini.numbers(made)
    assert found == {
        "codec": {
            "steps": 30,
            "minutes": 2.0,
            "loss": 1.0,
            "held_out_loss": 1.5,
            "held_out_psnr": 30.0,
        }
    }
