import sys
from pathlib import Path

import pytest

from benchmarks import soak

PROGRAM = """
import dataclasses, sys, time
from ft_jax.training import loop
from tests.training import toy

class Slow(toy.Feed):
    def train(self, start):
        for batch in super().train(start):
            time.sleep(0.005)
            yield batch

every = dataclasses.replace(toy.EVERY, log=1, evaluate=0, save=10)
run = toy.settings(num_steps=150, every=every)
loop.train(run, toy.Toy(), Slow(), sys.argv[1].partition("=")[2], {})
"""


def test_killed_twice_is_the_run_that_nobody_killed_and_little_is_lost(tmp_path):
    command = (sys.executable, "-c", PROGRAM)
    plan = soak.Plan(tmp_path, command, save=10, kills=2, seed=1)
    found = soak.soak(plan)
    assert found.differs == () and len(found.kills) == 2
    assert any(kill.reached > 0 for kill in found.kills)
    assert found.holds(plan.save)
    assert "| kills | 2 |" in soak.table(plan, found)


@pytest.mark.parametrize(
    ("reached", "saving", "resumed", "excess"),
    [
        (57, None, 50, 0),
        (57, None, 47, 0),
        (57, None, 40, 7),
        (57, 50, 40, 0),
        (57, 50, 30, 10),
        (60, 50, 40, 0),
        (7, None, 0, 0),
    ],
)
def test_what_may_be_lost_is_an_interval_and_the_steps_of_an_unfinished_save(
    reached, saving, resumed, excess
):
    assert soak.Kill(reached, saving, resumed).excess(10) == excess


def test_a_save_is_unfinished_until_its_folder_has_its_name(tmp_path):
    assert soak.unfinished(tmp_path, 9, 10) is None and soak.unfinished(tmp_path, 17, 10) == 10
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    assert soak.unfinished(tmp_path, 17, 10) is None


def test_a_save_that_is_due_may_wait_for_the_one_before(tmp_path):
    assert soak.unfinished(tmp_path, 20, 10) == 10 and soak.unfinished(tmp_path, 21, 10) == 20
    (tmp_path / "checkpoints" / "20").mkdir(parents=True)  # the older one may be deleted by then
    assert soak.unfinished(tmp_path, 20, 10) is None


def test_a_start_that_said_nothing_leaves_the_cost_to_the_next_one():
    waiting: list[tuple[int, int | None]] = [(12, None)]
    assert soak.costs(waiting, None) == []
    waiting.append((12, 10))
    assert soak.costs(waiting, 10) == [soak.Kill(12, None, 10), soak.Kill(12, 10, 10)]
    assert waiting == []


def test_a_line_that_a_kill_cut_off_is_no_step(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    assert soak.last_step(tmp_path) == 3
    assert soak.last_step(Path(tmp_path / "nowhere")) == 0
