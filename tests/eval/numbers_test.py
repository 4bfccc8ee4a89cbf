import json
import math

import pytest

from ft_jax.eval.bootstrap import Interval
from ft_jax.eval.numbers import Number, Target, merge, table

GOOD = Number("lips", "r with speech", Interval(0.7, 0.6, 0.8, 200), Target(least=0.6))


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(least=0.7), True),
        (Target(least=0.71), False),
        (Target(least=0.5, least_low=0.61), False),
        (Target(least=0.5, least_low=0.6), True),
        (Target(least=-0.1, most=0.1), False),
        (Target(most=1.0), True),
    ],
)
def test_every_bound_must_hold(target, met):
    assert target.is_met(GOOD.interval) is met


def test_file_holds_each_number_with_interval_target_and_verdict(tmp_path):
    path = tmp_path / "numbers.json"
    merge(path, [GOOD], {"pairs": 200})
    merge(path, [Number("aside", "no target", Interval(1.0, 0.0, 2.0, 3))], {"pairs": 200})
    content = json.loads(path.read_text())
    assert set(content) == {"schema", "about", "numbers"}
    fields = {"meaning", "value", "low", "high", "count", "target", "met"}
    assert {name: set(row) for name, row in content["numbers"].items()} == {
        "lips": fields,
        "aside": fields,
    }
    assert content["numbers"]["lips"]["met"] is True
    assert content["numbers"]["aside"]["met"] is None
    assert not list(tmp_path.glob("*.partial"))


def test_rows_of_other_weights_are_dropped(tmp_path):
    path = tmp_path / "numbers.json"
    merge(path, [GOOD], {"weights": "one"})
    content = merge(path, [], {"weights": "two"})
    assert content["numbers"] == {}


def test_no_clips_is_still_json(tmp_path):
    path = tmp_path / "numbers.json"
    merge(path, [Number("none", "", Interval(0.0, -math.inf, math.inf, 0))], {})
    row = json.loads(path.read_text(), parse_constant=pytest.fail)["numbers"]["none"]
    assert row["low"] is None and row["high"] is None


def test_table_names_what_is_met_and_what_is_missed(tmp_path):
    missed = Number("jerk", "", Interval(1.4, 1.3, 1.5, 9), Target(most=1.0))
    unknown = Number("none", "", Interval(0.0, -math.inf, math.inf, 0))
    content = merge(tmp_path / "n.json", [GOOD, missed, unknown], {})
    text = table(content["numbers"]).splitlines()
    assert text[1].startswith("met") and "0.600 .. 0.800" in text[1]
    assert text[2].startswith("MISSED") and text[2].endswith("<= 1")
    assert "unknown" in text[3]
