"""In processes of their own: `faulthandler` has one watch, which pytest may want."""

import subprocess
import sys

PROGRAM = """
import pathlib, time
from ft_jax.training.watchdog import Watchdog

def stuck_in_here():
    time.sleep({sleep})

dog = Watchdog(pathlib.Path({folder!r}), {seconds})
for _ in range(3):
    dog.beat()
stuck_in_here()
dog.close()
"""


def stacks(folder, seconds: float, sleep: float) -> str | None:
    program = PROGRAM.format(folder=str(folder), seconds=seconds, sleep=sleep)
    subprocess.run([sys.executable, "-c", program], check=True)
    path = folder / "hang.0.txt"
    return path.read_text() if path.exists() else None


def test_silence_leaves_the_stacks_and_steps_in_time_leave_nothing(tmp_path):
    assert "in stuck_in_here" in (stacks(tmp_path, 0.1, 0.5) or "")
    once = (tmp_path / "hang.0.txt").stat().st_size
    stacks(tmp_path, 60.0, 0.0)  # the next start keeps what the last one left
    assert (tmp_path / "hang.0.txt").stat().st_size == once
    (tmp_path / "hang.0.txt").unlink()
    assert stacks(tmp_path, 60.0, 0.0) is None
    assert stacks(tmp_path, 0.0, 0.2) is None
