import pytest

from ft_jax.training.goodput import CAUSES, Goodput


def line(step: int, time: float, books: dict) -> dict:
    return {"step": step, "time": time, "goodput": books}


def test_what_is_not_lost_is_productive():
    books = Goodput([], 0, now=100.0)
    books.add("start", 10.0)
    books.add("data", 5.0)
    with books.lost("evaluation"):
        pass
    found = books.books(140.0)
    assert found["total"] == 40.0 and found["data"] == 5.0
    assert found["productive"] == pytest.approx(25.0, abs=0.1)
    assert found["share"] == pytest.approx(25.0 / 40.0, abs=0.01)
    assert set(CAUSES) <= set(found)


def test_a_restart_books_the_pause_and_the_work_that_is_done_again():
    first = Goodput([], 0, now=0.0)
    first.add("start", 10.0)
    lines = [line(4, 20.0, first.books(20.0)), {"step": 4, "held_out": {}}]
    lines.append(line(6, 30.0, first.books(30.0)))  # 10 productive seconds after the checkpoint
    again = Goodput(lines, 4, now=50.0)
    again.add("start", 7.0)
    found = again.books(60.0)
    assert found["total"] == 60.0 and found["start"] == 17.0
    assert found["restart"] == 20.0 + 10.0
    assert found["productive"] == 60.0 - 17.0 - 30.0


def test_books_of_several_restarts_add_up():
    lines, began = [], 0.0
    for _ in range(3):
        books = Goodput(lines, 0, began)
        books.add("start", 1.0)
        lines.append(line(2, began + 5.0, books.books(began + 5.0)))
        began += 10.0
    last = lines[-1]["goodput"]
    assert last["total"] == 25.0 and last["start"] == 3.0
    assert last["restart"] == 2 * (5.0 + 4.0) and last["productive"] == 4.0
