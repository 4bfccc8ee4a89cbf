"""Two processes, as two hosts are: each has a device of its own, the folder is shared."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import dataclasses, os, signal, sys, time
import jax
port, number, place, kill = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
from ft_jax.sharding import mesh
from ft_jax.training import loop
from tests.training import toy

class Share(toy.Feed):
    def train(self, start):
        for count, batch in enumerate(super().train(start), start):
            if number == 1:
                time.sleep(0.02)
                if count == kill:
                    os.kill(os.getpid(), signal.SIGTERM)
            yield batch

every = dataclasses.replace(toy.EVERY, log=1, evaluate=0, save=50)
run = toy.settings(num_steps=400, every=every, mesh=mesh.Config(data=2))
summary = loop.train(run, toy.Toy(), Share(samples=2), place, {})
print(f"ended at {summary.step} {summary.finished}", flush=True)
"""


def ends(folder: Path, kill: int) -> list[str]:
    """What the two processes say last; the second one is sent SIGTERM at batch `kill`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(number), str(folder), str(kill)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=120) for process in made]
    finally:
        for process in made:
            process.kill()
    assert [process.returncode for process in made] == [0, 0], said
    return [out.splitlines()[-1] for out, _ in said]  # Gloo speaks first


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("stopped")
    return folder, ends(folder, 5)


def test_a_signal_to_one_process_stops_all_after_the_same_step(stopped):
    folder, (first, second) = stopped
    assert first == second and first.endswith("False")
    step = int(first.split()[2])
    assert 5 <= step < 400
    saved = [int(path.name) for path in (folder / "checkpoints").iterdir()]
    assert max(saved) == step and all(other % 50 == 0 for other in saved if other != step)


def test_the_host_that_holds_up_the_others_is_named_in_one_log(stopped):
    folder, _ = stopped
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps))  # one process writes
    named = [line["slowest"]["host"] for line in lines[2:] if "slowest" in line]
    assert named and sum(name.endswith("/1") for name in named) > len(named) / 2
    assert lines[-1]["slowest"]["seconds"] >= lines[-1]["slowest"]["median"]
