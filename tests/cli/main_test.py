import subprocess
import sys

from ft_jax.cli import __main__ as commands


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ft_jax.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_every_command_is_known():
    """And nothing else that lies beside them."""
    known = {"bundle", "convert", "evaluate", "generate", "plan", "train", "verify"}
    assert set(commands.COMMANDS) == known


def test_an_unknown_command_is_one_line_and_exit_code_2():
    done = run("fly")
    assert done.returncode == 2
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("ft_jax: fly: unknown; expected one of ")


def test_a_command_gets_the_arguments_behind_its_name():
    done = run("generate", "--imag=x")
    assert done.returncode == 2
    assert "--imag" in done.stderr and "Traceback" not in done.stderr
