"""The frame around every command: what a user can cause is one line and exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = '''"""A command for tests.

Its second paragraph.
"""
import sys, warnings
from absl import flags
from ft_jax.cli import entry
from ft_jax.errors import UsageError

flags.DEFINE_integer("count", 1, "How many.")
flags.DEFINE_string("say", None, "What to do.")
CONFIG = entry.define_config("CONFIG_FILE")


def main(arguments):
    warnings.warn("a library speaks")
    say = flags.FLAGS.say
    if say == "usage":
        raise UsageError("a.png: broken\\n in two lines; expected a picture")
    if say == "open":
        open("/nonexistent/file")
    if say == "fault":
        raise RuntimeError("a fault of the program")
    if say == "need":
        entry.need("say", "x")
    print(arguments, flags.FLAGS.count, CONFIG.value.steps)


if __name__ == "__main__":
    entry.run(main)
'''
CONFIG = """
from ml_collections import ConfigDict


def get_config(arg=""):
    return ConfigDict({"steps": 5 if arg == "tiny" else 30, "guidance": {"text": 5.0}})
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    (tmp_path / "settings.py").write_text(CONFIG)
    path = tmp_path / "command.py"
    path.write_text(COMMAND.replace("CONFIG_FILE", str(tmp_path / "settings.py")))
    return path


def run(command: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(command), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    ("argument", "culprit", "words"),
    [
        ("--cuont=3", "--cuont", "did you mean --count?"),
        ("--count=many", "--count=many", "expected"),
        ("--config.stepz=3", "--config.stepz", "no such setting"),
        ("--config.guidance.txt=3", "--config.guidance.txt", "did you mean 'text'?"),
        ("--config.steps.deep=3", "--config.steps.deep", "no such setting"),
        ("--config.steps=few", "--config.steps=few", "expected"),
        ("--config=/nowhere.py", "/nowhere.py", "expected"),
        ("--say=usage", "a.png", "broken in two lines; expected a picture"),
        ("--say=open", "/nonexistent/file", "No such file"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(
    command: Path, argument: str, culprit: str, words: str
) -> None:
    done = run(command, argument)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"ft_jax: {culprit}: ")
    assert words in done.stderr


def test_a_fault_of_the_program_keeps_its_traceback(command: Path) -> None:
    done = run(command, "--say=fault")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_flags_settings_and_arguments_reach_the_command_and_libraries_are_quiet(
    command: Path,
) -> None:
    done = run(command, "rest", "--count=3", "--config.steps=7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['rest'] 3 7\n", "")


def test_a_config_takes_its_variant_and_is_found_under_both_spellings(command: Path) -> None:
    settings = command.parent / "settings.py"
    assert run(command, f"--config={settings}:tiny").stdout == "[] 1 5\n"
    assert run(command, "--config", f"{settings}:tiny").stdout == "[] 1 5\n"


def test_help_shows_what_it_does_its_flags_and_its_settings(command: Path) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    for words in ("A command for tests", "--count", "How many.", "--config.guidance.text=5.0"):
        assert words in done.stdout
