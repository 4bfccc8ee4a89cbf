import numpy as np
import pytest

from ft_jax.eval.bootstrap import bootstrap, difference, mean, ratio


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        interval = bootstrap(mean, rng.normal(3.0, 2.0, 60), draws=400, seed=trial)
        covered += interval.low <= 3.0 <= interval.high
    assert 0.89 <= covered / 200 <= 0.99


def test_pairing_keeps_what_both_arms_share_out_of_the_interval():
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 10, 100)
    first, second = shared + 1 + rng.normal(0, 0.1, 100), shared
    paired = bootstrap(difference, first, second)
    alone = bootstrap(mean, first)
    assert paired.low > 0.9 and paired.high < 1.1
    assert paired.high - paired.low < (alone.high - alone.low) / 20


def test_value_is_the_statistic_of_the_samples_and_seed_decides_the_draws():
    samples = np.arange(10.0)
    first, again = bootstrap(mean, samples, seed=5), bootstrap(mean, samples, seed=5)
    assert first == again
    assert first.value == samples.mean() and first.count == 10
    assert bootstrap(mean, samples, seed=6) != first


def test_constant_samples_have_an_interval_without_width():
    interval = bootstrap(mean, np.full(20, 0.25))
    assert (interval.value, interval.low, interval.high) == (0.25, 0.25, 0.25)


def test_no_clips_is_zero_and_unbounded():
    interval = bootstrap(mean, np.zeros(0))
    assert interval.value == 0 and interval.low == -np.inf and interval.count == 0


def test_ratio_of_sums_and_division_by_zero():
    assert ratio(np.array([[2.0, 4.0]]), np.array([[1.0, 2.0]])) == 2.0
    assert ratio(np.array([[2.0, 4.0]]), np.zeros((1, 2))) == 0.0


def test_arrays_of_different_clips_are_refused():
    with pytest.raises(ValueError, match="paired"):
        bootstrap(difference, np.zeros(3), np.zeros(4))
