"""Settings become dataclasses strictly: every wrong key or value is named."""

import dataclasses
from typing import Literal

import pytest
from ml_collections import ConfigDict

from ft_jax.config import build, to_dict
from ft_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner
    mode: Literal["clip", "frame"] = "clip"
    limit: int | None = None


GOOD = {"steps": 3, "inner": {"rate": 1, "names": ["a", "b"]}, "mode": "frame", "limit": 4}


def test_builds_nested_dataclasses_from_a_config_dict():
    built = build(Outer, ConfigDict(GOOD))
    assert built == Outer(3, Inner(1.0, ("a", "b")), "frame", 4)
    assert isinstance(built.inner.rate, float)


def test_to_dict_is_the_inverse():
    built = build(Outer, GOOD)
    assert build(Outer, to_dict(built)) == built


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"stesp": 1}, "config.stesp"),
        ({"inner": {"rate": 1, "nmaes": []}}, "config.inner.nmaes"),
        ({"inner": {}}, "config.inner.rate"),
        ({"steps": "3"}, "config.steps"),
        ({"steps": True}, "config.steps"),
        ({"mode": "clap"}, "config.mode"),
        ({"inner": 3}, "config.inner"),
        ({"inner": {"rate": 1, "names": [1]}}, r"config.inner.names\[0\]"),
        ({"limit": "x"}, "config.limit"),
    ],
)
def test_wrong_settings_are_named(change, named):
    with pytest.raises(UsageError, match=named):
        build(Outer, {**GOOD, **change})
