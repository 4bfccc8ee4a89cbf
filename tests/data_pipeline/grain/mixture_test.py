"""Turns by weight, known at any place."""

from collections import Counter

import pytest

from data_pipeline.grain.mixture import CYCLE, Mixture


@pytest.mark.parametrize("weights", [(1,), (3, 1), (0.2, 0.5, 0.3), (1, 1, 1)])
def test_turns_are_counted_as_they_come_and_follow_the_weights(weights: tuple[float, ...]):
    mixture, seen = Mixture(weights, (0,)), Counter[int]()
    for place in range(2 * CYCLE):
        thing, before = mixture.turn(place)
        assert before == seen[thing]
        seen[thing] += 1
    for thing, weight in enumerate(weights):
        assert abs(seen[thing] / (2 * CYCLE) - weight / sum(weights)) <= 1 / CYCLE


def test_the_order_is_the_seed_s_and_another_in_each_cycle():
    def order(seed: int, cycle: int) -> list[int]:
        mixture = Mixture((1, 1), (seed,))
        return [mixture.turn(cycle * CYCLE + place)[0] for place in range(CYCLE)]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, cycle)) for seed in (0, 1) for cycle in (0, 1)}) == 4
