import threading

import pytest

from ft_jax.training.prefetch import Prefetch


def test_items_come_in_order_and_end():
    assert list(Prefetch(iter(range(20)), lambda x: x * x)) == [x * x for x in range(20)]


def test_it_runs_ahead_by_its_depth_and_no_further():
    made, ready = [], threading.Event()

    def place(item: int) -> int:
        made.append(item)
        if len(made) == 3:
            ready.set()
        return item

    batches = Prefetch(iter(range(100)), place, depth=2)
    assert ready.wait(5)  # two in the queue, one waiting to enter
    assert len(made) == 3
    assert next(batches) == 0
    batches.close()
    assert len(made) <= 5


def test_an_error_of_the_loader_comes_out_where_its_batch_would():
    def source():
        yield 1
        raise OSError("shard 3")

    batches = Prefetch(source(), lambda x: x)
    assert next(batches) == 1
    with pytest.raises(OSError, match="shard 3"):
        next(batches)
    with pytest.raises(StopIteration):
        next(batches)


def test_closing_ends_the_thread():
    before = threading.active_count()
    Prefetch(iter(range(1_000_000)), lambda x: x).close()
    assert threading.active_count() == before
