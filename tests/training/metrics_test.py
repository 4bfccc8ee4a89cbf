import json

import jax.numpy as jnp
import pytest

from ft_jax.errors import UsageError
from ft_jax.training.metrics import Log, clock


def values(loss: float) -> dict:
    return {"loss": jnp.asarray(loss), "gradient_norm": jnp.asarray(1.0)}


def lines(folder) -> list:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_lines_hold_means_and_come_one_step_late(tmp_path):
    log = Log(tmp_path, "toy", 0, 4, 2)
    log.push(0, values(1.0), ["a"], 0.0)
    log.push(1, values(3.0), ["b"], 0.0)
    assert not lines(tmp_path)
    log.push(2, values(5.0), ["c"], 0.0)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 2.0)]
    log.flush()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 2.0), (3, 5.0)]


def test_timing_and_the_remaining_time_are_told(tmp_path, capsys):
    log = Log(tmp_path, "toy", 0, 100, 1)
    log.push(0, values(1.0), ["a", "b"], 0.0)
    log.flush()
    (line,) = lines(tmp_path)
    assert line["samples_per_second"] == pytest.approx(2 / line["step_seconds"])
    assert 0 <= line["data_wait_share"] <= 1
    assert "step 1/100" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_what_is_not_finite_stops_with_the_records_of_that_batch(tmp_path, name):
    log = Log(tmp_path, "toy", 0, 4, 2)
    log.push(7, {**values(1.0), name: jnp.asarray(jnp.inf)}, ["bad"], 0.0)
    with pytest.raises(UsageError, match=f"step 7: {name} is inf"):
        log.push(8, values(1.0), ["good"], 0.0)
    assert json.loads((tmp_path / "bad_batch.json").read_text())["ids"] == ["bad"]


def test_lines_after_the_restored_step_and_broken_ones_are_forgotten(tmp_path):
    text = '{"step": 2, "loss": 1}\n{"step": 4, "loss": 1}\n{"step": 6, "lo'
    (tmp_path / "log.jsonl").write_text(text)
    log = Log(tmp_path, "toy", 4, 10, 1)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    assert not log.judged(4)
    log.write({"step": 4, "held_out": {}})
    assert log.judged(4) and not log.judged(2)


def test_seconds_read_as_a_clock():
    assert [clock(x) for x in (0.4, 61.0, 3661.0)] == ["0:00:00", "0:01:01", "1:01:01"]
