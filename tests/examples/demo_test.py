import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples import clips, demo, report
from examples.steps import Step, Steps

ROOT = Path(__file__).parents[2]
FACTS = {
    "weights": None,
    "steps": {"clip": 31.0, "frame": 34.0},
    "cores": 2,
    "machine": "Linux",
    "peak_gib": 1.5,
}


def row(name: str, frames: int = 33, expression: float = 0.5, body: float = 0.5) -> dict[str, Any]:
    track = [None if k == 3 else 0.1 for k in range(frames)]
    return {
        "file": f"clips/{name}.mp4",
        "still": f"clips/{name}.png",
        "frames": frames,
        "fps": 23.0,
        "windows": 1 + (frames > 33),
        "expression_asked": expression,
        "body_asked": body,
        "track": track,
        "speech_track": [0.1] * frames,
        "loudness": [0.5] * frames,
        "scores": {"lips_truth": 0.71, "expression": expression**2, "body": body**2},
    }


@pytest.fixture
def made(tmp_path) -> Path:
    rows = {
        "own": row("own"),
        "other": row("other"),
        "long": row("long", 97),
        "expression_0": row("expression_0", expression=0.0),
        "expression_1": row("expression_1", expression=1.0),
        "body_0": row("body_0", body=0.0),
        "body_1": row("body_1", body=1.0),
        "stage_1": row("stage_1"),
    }
    (tmp_path / "clips.json").write_text(json.dumps({"caption": "a person", "clips": rows}))
    (tmp_path / "tuned.json").write_text(json.dumps({"clips": {"tuned": row("tuned")}}))
    for stage in ("clip", "frame"):
        folder = tmp_path / "train" / stage
        folder.mkdir(parents=True)
        lines = [{"step": k + 1, "loss": 1 / (k + 1)} for k in range(40)]
        lines.append({"step": 40, "held_out": 1.0})  # an evaluation: not a step
        (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def sources(text: str, tag: str) -> list[str]:
    return re.findall(rf'<{tag} src="([^"]+)"', text)


def test_page_shows_everything_the_demo_makes(made):
    text = report.write_page(made, FACTS).read_text()
    names = ["own", "other", "expression_0", "own", "expression_1", "body_0", "own", "body_1"]
    names += ["long", "stage_1", "own", "tuned"]
    assert sources(text, "video") == [f"clips/{name}.mp4" for name in names]
    assert sources(text, "img") == ["clips/portrait.png"]
    for words in (
        "never seen",
        "Expression 1",
        "Longer than the training clips",
        "4.2 s, 2.9 times the training length, from 2 overlapping windows",
        "Stage 1",
        "Stage 2",
        "Without stage 2",
        "With stage 2",
        "loudness of the speech",
        "r = 0.71",
        "1 min 05 s",
    ):
        assert words in text, words


def test_claims_are_shown_where_they_were_measured(made):
    assert "What was measured" not in report.write_page(made, FACTS).read_text()
    number = {"meaning": "lips", "value": 0.7, "low": 0.6, "high": 0.8, "target": ">= 0.6"}
    (made / "numbers.json").write_text(json.dumps({"numbers": {"lips": number | {"met": True}}}))
    text = report.write_page(made, FACTS).read_text()
    assert "What was measured" in text and "0.60 to 0.80" in text


def test_weights_without_instrument_or_stage_1_still_make_a_page(made):
    for name in ("clips.json", "tuned.json"):
        content = json.loads((made / name).read_text())
        content["clips"].pop("stage_1", None)
        for each in content["clips"].values():
            for key in ("track", "speech_track", "loudness", "scores"):
                del each[key]
        (made / name).write_text(json.dumps(content))
    text = report.write_page(made, FACTS).read_text()
    assert "Without stage 2" not in text and "Not measured" in text


def test_evaluations_in_a_log_are_no_steps(made):
    points = report.log(made / "train" / "clip" / "log.jsonl")
    assert [step for step, _ in points] == list(range(1, 41))
    assert points[1][1] == 0.5


def test_smoothed_loss_is_the_mean_of_the_last_steps():
    chart = report.losses([(k, float(k)) for k in range(1, 13)], "")
    np.testing.assert_allclose(chart.series[1].y, [1, *(np.arange(2, 13) - 0.5)])


class Recorder(Steps):
    """Takes every step as done."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, demo.COUNT)
        self.titles: list[str] = []
        self.commands: dict[str, list[str]] = {}

    def call(self, step: Step, work) -> None:
        self.titles.append(step.title)

    def run(self, step: Step, command, environment) -> None:
        self.titles.append(step.title)
        self.commands[step.name] = list(command)


@pytest.fixture
def recorder(tmp_path) -> Recorder:
    recorder = Recorder(tmp_path)
    demo.run(demo.Plan(tmp_path, tmp_path / "weights.safetensors"), recorder)
    return recorder


def test_demo_calls_public_commands_only(recorder):
    public = {"data_pipeline.world", "data_pipeline.build"}
    for command in recorder.commands.values():
        assert command[1] == "-m"
        assert command[2] in public or re.fullmatch(r"ft_jax\.cli\.\w+", command[2])
    assert len(recorder.titles) == demo.COUNT


def test_stage_2_starts_from_stage_1_and_both_from_the_weights(recorder, tmp_path):
    starts = {
        name: next(part for part in recorder.commands[name] if "init_from" in part)
        for name in ("clip", "frame")
    }
    assert starts["clip"].endswith(f"={tmp_path / 'weights.safetensors'}")
    assert starts["frame"].endswith(f"={tmp_path / 'train' / 'clip'}")


@pytest.mark.parametrize("stage", ["clip", "frame"])
def test_every_setting_of_the_training_commands_exists(recorder, stage):
    command = recorder.commands[stage]
    (config,) = [part for part in command if part.startswith("--config=")]
    name, size = Path(config.removeprefix("--config=")).name.split(":")
    settings = importlib.import_module(f"configs.{name.removesuffix('.py')}").get_config(size)
    for part in command:
        if part.startswith("--config."):
            key, value = part.removeprefix("--config.").split("=")
            node: Any = settings
            for each in key.split("."):
                assert each in node, key
                node = node[each]
            type(node)(value)


def test_the_sweep_of_the_page_is_generated(tmp_path):
    for name, frames in (("face", 33), ("long", 97)):
        folder = tmp_path / "heldout" / name
        folder.mkdir(parents=True)
        rows = [
            {"audio": f"clips/{start}-{frames}.wav", "start": start} for start in ("turned", "open")
        ]
        rows = rows if name == "face" else rows[1:]
        (folder / "index.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    found = clips.wanted(clips.Recipe(tmp_path, tmp_path / "w", None))
    by_name = {each.name: each for each in found}
    assert by_name["own"].spoken.name == "open-33.wav"  # speech of the clip the portrait is from
    assert by_name["other"].spoken != by_name["own"].spoken
    assert by_name["long"].spoken.name == "open-97.wav"
    assert by_name["expression_1"].expression == 1.0 and by_name["expression_1"].body == 0.5
    assert by_name["body_0"].body == 0.0
    tuned = clips.wanted(clips.Recipe(tmp_path, tmp_path / "w", None, ("tuned",)))
    assert [(each.name, each.spoken) for each in tuned] == [("tuned", by_name["own"].spoken)]


def test_demo_without_weights_says_so_in_one_line(tmp_path):
    from ft_jax.errors import UsageError

    with pytest.raises(UsageError, match=r"none\.safetensors: no such file"):
        demo.main(["--out", str(tmp_path), "--weights", str(tmp_path / "none.safetensors")])
