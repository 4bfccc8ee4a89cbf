"""The command: every wrong input is one line, exit code 2 and no file; a right one gives a clip."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from ft_jax.checkpoints import bundle
from ft_jax.config import to_dict
from ft_jax.media import sound, video
from tests.sampling import tiny_system

ROOT = Path(__file__).parents[2]
# Runs the command many times in one process and prints what came of each.
DRIVER = """
import contextlib, io, json, sys
from absl.testing import flagsaver
from ft_jax.cli import entry, generate

results = []
for arguments in json.loads(sys.stdin.read()):
    sys.argv = ["generate", *arguments]
    said, wrong, code = io.StringIO(), io.StringIO(), None
    with flagsaver.flagsaver(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        try:
            entry.run(generate.main)
        except SystemExit as left:
            code = left.code
    results.append([code, said.getvalue(), wrong.getvalue()])
print(json.dumps({"results": results, "jax": "jax" in sys.modules}))
"""


def python(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def write_inputs(folder: Path) -> None:
    """Good and bad pictures and sounds."""
    noise = np.random.default_rng(0)
    picture = noise.integers(0, 255, (60, 50, 3), np.uint8)
    Image.fromarray(picture).save(folder / "good.png")
    Image.new("1", (1, 1)).save(folder / "one.png")
    Image.new("1", (20_000, 20)).save(folder / "wide.png")
    (folder / "half.png").write_bytes((folder / "good.png").read_bytes()[:5000])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    speech = 0.1 * noise.standard_normal(16_000 * 2)
    soundfile.write(folder / "good.wav", speech[:8000], 16_000)
    soundfile.write(folder / "long.wav", speech, 16_000)
    soundfile.write(folder / "short.wav", speech[:800], 16_000)
    soundfile.write(folder / "silent.wav", np.zeros(16_000), 16_000)
    (folder / "half.wav").write_bytes((folder / "long.wav").read_bytes()[:20_000])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("not a sound")


BAD: dict[str, tuple[dict[str, str | None], str, str]] = {
    "picture missing": ({"image": "none.png"}, "none.png", "no such file"),
    "picture empty": ({"image": "empty.png"}, "empty.png", "empty"),
    "picture truncated": ({"image": "half.png"}, "half.png", "truncated"),
    "picture not decodable": ({"image": "text.png"}, "text.png", "not a picture"),
    "picture 1x1": ({"image": "one.png"}, "one.png", "1 x 1 pixels"),
    "picture 20,000 wide": ({"image": "wide.png"}, "wide.png", "20000 x 20 pixels"),
    "picture is a folder": ({"image": ""}, "", "is a folder"),
    "identity missing": ({"identity": "none.png"}, "none.png", "no such file"),
    "identity truncated": ({"identity": "half.png"}, "half.png", "truncated"),
    "sound missing": ({"audio": "none.wav"}, "none.wav", "no such file"),
    "sound empty": ({"audio": "empty.wav"}, "empty.wav", "empty"),
    "sound truncated": ({"audio": "half.wav"}, "half.wav", "cut short"),
    "sound not decodable": ({"audio": "text.wav"}, "text.wav", "not sound"),
    "sound is a picture": ({"audio": "good.png"}, "good.png", "no sound"),
    "sound silent": ({"audio": "silent.wav"}, "silent.wav", "silent"),
    "sound 0.05 s": ({"audio": "short.wav"}, "short.wav", "lasts 0.050 s"),
    "out of another kind": ({"out": "clip.avi"}, "clip.avi", ".mp4"),
    "out below a file": ({"out": "good.png/clip.mp4"}, "good.png/clip.mp4", "written"),
    "weights missing": ({"weights": "none.safetensors"}, "none.safetensors", "no such file"),
    "no image": ({"image": None}, "--image", "not given"),
    "no audio": ({"audio": None}, "--audio", "not given"),
    "no out": ({"out": None}, "--out", "not given"),
    "unknown flag": ({"imagee": "x"}, "--imagee", "no such flag"),
    "unknown setting": ({"config.sampler.stepz": "3"}, "--config.sampler.stepz", "no such setting"),
    "bad setting": ({"config.sampler.steps": "many"}, "--config.sampler.steps=many", "expected"),
    "unknown variant": ({"config": "configs/sample.py:slow"}, "", "expected"),
    "intensity out of range": ({"body": "1.5"}, "--body=1.5", "expected"),
    "intensity no number": ({"expression": "much"}, "--expression=much", "expected"),
    "limit too small": ({"max_seconds": "0.01"}, "--max_seconds=0.01", "expected"),
}
FILES = ("image", "audio", "identity", "out", "weights")


def command_line(folder: Path, changed: dict[str, str | None]) -> list[str]:
    given = {"image": "good.png", "audio": "good.wav", "out": "clip.mp4", **changed}
    return [
        f"--{name}={folder / value if name in FILES else value}"
        for name, value in given.items()
        if value is not None
    ]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command did with every bad input, and with what it was left afterwards."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    before = sorted(path.name for path in folder.iterdir())
    lines = [command_line(folder, changed) for changed, _, _ in BAD.values()]
    done = python("-c", DRIVER, given=json.dumps(lines))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {
        "folder": folder,
        "results": dict(zip(BAD, answer["results"], strict=True)),
        "jax": answer["jax"],
        "left": sorted(path.name for path in folder.iterdir()) == before,
    }


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_input_is_one_line_that_names_it(refused: dict[str, Any], case: str) -> None:
    changed, culprit, words = BAD[case]
    code, said, wrong = refused["results"][case]
    assert (code, said) == (2, "")
    assert wrong.count("\n") == 1 and wrong.startswith("ft_jax: ")
    assert "Traceback" not in wrong
    assert "expected" in wrong or "did you mean" in wrong
    is_file = any(name in FILES and value for name, value in changed.items())
    assert (str(refused["folder"] / culprit) if is_file else culprit) in wrong
    assert words in wrong


def test_wrong_inputs_leave_no_file_and_cost_no_import_of_jax(refused: dict[str, Any]) -> None:
    assert refused["left"]
    assert not refused["jax"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One clip through the command, from speech longer than the limit."""
    folder = tmp_path_factory.mktemp("made")
    write_inputs(folder)
    system = tiny_system.system()
    bundle.save(folder / "tiny.safetensors", to_dict(system), tiny_system.params(system))
    changed: dict[str, str | None] = {
        "audio": "long.wav",
        "weights": "tiny.safetensors",
        "max_seconds": "1.3",
        "expression": "0.1,0.9",
        "config.sampler.steps": "1",
        "config.sampler.guidance.text": "1",
        "config.overlap": "2",
    }
    arguments = command_line(folder, changed)
    return folder, python("-m", "ft_jax.cli.generate", *arguments)


def test_the_clip_is_written_as_long_as_the_speech_and_the_command_says_so(
    made: tuple[Path, Any],
) -> None:
    folder, done = made
    assert done.returncode == 0, done.stderr
    clip = video.read(folder / "clip.mp4")
    assert abs(len(clip.frames) / clip.fps - 1.3) <= 0.5 / clip.fps
    assert clip.frames.shape[1:] == (256, 256, 3)
    assert sound.read(folder / "clip.mp4").seconds == pytest.approx(1.3, abs=0.03)
    assert "1.30 s, 30 frames of 256 x 256 pixels at 23 frames/s from 3" in done.stdout
    assert not list(folder.glob(".*"))


def test_what_the_user_should_know_is_said_in_a_line_each(made: tuple[Path, Any]) -> None:
    folder, done = made
    lines = re.split(r"[\r\n]+", done.stderr.strip())
    lines = [line for line in lines if not line.startswith("generating")]
    assert lines == [
        f"ft_jax: warning: {folder}/long.wav: lasts 2.00 s; only the first 1.3 s are animated, "
        "because of --max_seconds",
        f"ft_jax: warning: {folder}/good.png: no face found in the portrait; it is animated as it "
        "is, without keeping an identity",
    ]
