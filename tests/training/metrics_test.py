import json
import time

import jax.numpy as jnp
import pytest

from ft_jax.training.metrics import Log, Work, clock


def values(loss: float) -> dict:
    return {"loss": jnp.asarray(loss), "gradient_norm": jnp.asarray(1.0)}


def work(*ids: str, samples: int = 1, flops: float = 0.0) -> Work:
    return Work(ids, samples, flops)


def opened(folder, steps: range, every: int = 1, limit: int = 0) -> Log:
    return Log(folder, "toy", steps, every, limit, time.time())


def lines(folder) -> list:
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_lines_hold_means_and_come_one_step_late(tmp_path):
    log = opened(tmp_path, range(4), every=2)
    log.push(0, values(1.0), work("a"), 0.0)
    log.push(1, values(3.0), work("b"), 0.0)
    assert not lines(tmp_path)
    log.push(2, values(5.0), work("c"), 0.0)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 2.0)]
    log.flush()
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 2.0), (3, 5.0)]


def test_timing_and_the_remaining_time_are_told(tmp_path, capsys):
    log = opened(tmp_path, range(100))
    log.push(0, values(1.0), work("a", "b", samples=4), 0.0)
    log.flush()
    (line,) = lines(tmp_path)
    assert line["samples_per_second"] == pytest.approx(4 / line["step_seconds"])
    assert 0 <= line["data_wait_share"] <= 1
    assert "step 1/100" in capsys.readouterr().err


def test_steps_that_are_not_finite_are_counted_and_in_no_mean(tmp_path):
    log = opened(tmp_path, range(4), every=2, limit=1)
    log.push(0, values(1.0), work("a"), 0.0)
    log.push(1, values(float("nan")), work("b"), 0.0)
    log.flush()
    (line,) = lines(tmp_path)
    assert (line["loss"], line["skipped"]) == (1.0, 1)


def test_lines_after_the_restored_step_and_broken_ones_are_forgotten(tmp_path):
    text = '{"step": 2, "loss": 1}\n{"step": 4, "loss": 1}\n{"step": 6, "lo'
    (tmp_path / "log.jsonl").write_text(text)
    log = opened(tmp_path, range(4, 10))
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [2, 4]
    assert not log.judged(4)
    log.write({"step": 4, "held_out": {"loss": 2.0}})
    assert log.judged(4) == {"loss": 2.0} and not log.judged(2)


def test_mfu_is_told_where_the_rate_is_known_for_the_steps_that_were_made(tmp_path, capsys):
    log = opened(tmp_path, range(3), every=1)
    log.push(0, values(1.0), work("a"), 0.0)
    log.settle()
    assert "mfu" not in lines(tmp_path)[0] and "MFU" not in capsys.readouterr().err
    log = opened(tmp_path, range(1, 3), every=3)
    log.expect(4e12)
    log.push(1, values(1.0), work("a", flops=3e9), 0.0)
    log.push(2, values(1.0), work("a", flops=5e9), 0.0)
    log.settle()
    line = lines(tmp_path)[-1]
    assert line["mfu"] == pytest.approx(4e9 / 4e12 / line["step_seconds"])
    assert "MFU" in capsys.readouterr().err


def test_sinks_are_given_every_number_of_a_line(tmp_path):
    class Sink:
        def __init__(self):
            self.seen, self.closed = {}, False

        def put(self, step, numbers):
            self.seen[step] = numbers

        def close(self):
            self.closed = True

    log, sink = opened(tmp_path, range(4), every=2), Sink()
    log.add(sink)
    log.push(0, values(1.0), work("a"), 0.0)
    log.push(1, values(3.0), work("b"), 0.0)
    log.flush()
    log.write({"step": 2, "held_out": {"loss": 4.0, "kind": "word"}})
    log.close()
    assert sink.seen[2] == {"held_out/loss": 4.0} and sink.closed
    log = opened(tmp_path, range(2, 4))
    log.add(other := Sink())
    log.push(2, values(5.0), work("c"), 0.0)
    log.flush()
    numbers = other.seen[3]
    assert numbers["loss"] == 5.0 and numbers["goodput/share"] <= 1.0 and "time" not in numbers


def test_seconds_read_as_a_clock():
    assert [clock(x) for x in (0.4, 61.0, 3661.0)] == ["0:00:00", "0:01:01", "1:01:01"]
