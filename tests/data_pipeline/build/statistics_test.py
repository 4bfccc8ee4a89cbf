import numpy as np
import pytest

from data_pipeline.build import statistics


def test_ranks_spread_evenly_whatever_the_distribution() -> None:
    values = np.exp(np.random.default_rng(0).normal(0, 3, 101))
    table = statistics.rank_table(values)
    ranks = np.array([statistics.rank(value, table) for value in values])
    np.testing.assert_allclose(np.sort(ranks), (np.arange(101) + 0.5) / 101)
    assert statistics.rank(float(np.median(values)), table) == 0.5
    np.testing.assert_array_equal(np.argsort(ranks), np.argsort(values))


def test_new_clips_find_their_place_among_the_old() -> None:
    table = statistics.rank_table(np.arange(10.0))
    assert statistics.rank(-1.0, table) == 0 and statistics.rank(99.0, table) == 1
    assert statistics.rank(3.5, table) == pytest.approx(0.4)
    assert statistics.rank(2.0, statistics.rank_table(np.full(5, 2.0))) == 0.5
    assert statistics.rank(1.0, np.zeros(0)) == 0.5


def test_large_corpora_keep_quantiles() -> None:
    table = statistics.rank_table(np.random.default_rng(0).permutation(50_000).astype(float))
    assert len(table) == statistics.LARGEST_TABLE
    assert statistics.rank(12_500.0, table) == pytest.approx(0.25, abs=1e-3)


def test_linear_scales_run_between_their_quantiles() -> None:
    table = statistics.rank_table(np.append(np.arange(100.0), 10_000.0))
    scales = statistics.SCALES
    assert scales["range"](0.0, table) == 0 and scales["range"](10_000.0, table) == 1
    assert scales["range"](50.0, table) == pytest.approx(0.005)  # the long tail
    assert scales["percentiles"](50.0, table) == pytest.approx(0.5, abs=0.01)
    assert scales["percentiles"](-5.0, table) == 0 and scales["percentiles"](5e4, table) == 1
    assert scales["rank"](50.0, table) == pytest.approx(0.5, abs=0.01)
    assert scales["range"](3.0, np.full(4, 2.0)) == 0.5 == scales["range"](3.0, np.zeros(0))
