"""Bounds on numbers made by hand."""

import pytest

from ft_jax.plan import bounds
from ft_jax.plan.chips import Chip
from ft_jax.plan.flops import Flops

WIDE = Chip("toy", 100.0, 1000.0, 10.0, 1.0, 256, 2)
NARROW = Chip("toy", 100.0, 1000.0, 10.0, 1.0, 128, 2)


def test_narrow_contractions_take_twice_the_time_on_a_wide_unit_only():
    work = Flops(200.0, 50.0)
    assert bounds.bound(NARROW, work, 100.0, 0.0, 0.0).arithmetic == pytest.approx(2.0)
    assert bounds.bound(WIDE, work, 100.0, 0.0, 0.0).arithmetic == pytest.approx(2.5)


def test_a_step_takes_the_slower_of_arithmetic_and_memory_and_what_is_exposed():
    found = bounds.bound(NARROW, Flops(200.0), 150.0, 30.0, 0.5)
    assert (found.arithmetic, found.memory, found.step) == (2.0, 3.0, 3.5)
    assert found.useful == pytest.approx(150 / 350)
    assert found.binding == "memory"
    assert bounds.bound(NARROW, Flops(200.0), 150.0, 10.0, 0.5).binding == "arithmetic"
    assert bounds.bound(NARROW, Flops(200.0), 150.0, 10.0, 9.0).binding == "exposed"
