"""A compiled step for each shape."""

import contextlib
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from ft_jax.training.steps import Steps


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def traced() -> list[tuple[str, int]]:
    """Thread and length of every trace."""
    return []


@pytest.fixture
def steps(said: list[str], traced: list[tuple[str, int]]) -> Iterator[Steps]:
    inside = threading.local()

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        inside.is_set = True
        yield
        inside.is_set = False

    def step(state: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        assert inside.is_set
        traced.append((threading.current_thread().name, len(batch["x"])))
        return state + batch["x"].sum()

    made = Steps(jax.jit(step), (jnp.ones(()),), {}, around, said.append)
    yield made
    made.close()


def batch(length: int) -> dict[str, jax.Array]:
    return {"x": jnp.ones(length)}


def test_each_shape_is_compiled_once_by_the_thread_and_in_order(
    steps: Steps, said: list[str], traced: list[tuple[str, int]]
):
    steps.ahead([batch(2), batch(3), batch(2)])
    for length in (3, 2, 3):
        assert steps(jnp.ones(()), batch(length)) == 1 + length
    assert [length for _, length in traced] == [2, 3] and len(said) == 2
    assert all(name.startswith("compile") for name, _ in traced)


def test_a_shape_that_was_not_announced_is_compiled_when_it_comes(steps: Steps):
    assert steps(jnp.ones(()), batch(4)) == 5


def test_arguments_may_be_gone_before_they_are_compiled_for(steps: Steps):
    ahead = batch(5)
    steps.ahead([batch(2), ahead])
    ahead["x"].delete()
    assert steps(jnp.ones(()), batch(5)) == 6


def test_what_fails_to_compile_is_raised_where_the_step_is_called(steps: Steps):
    steps.ahead([{"y": jnp.ones(1)}])
    with pytest.raises(KeyError, match="x"):
        steps(jnp.ones(()), {"y": jnp.ones(1)})


def test_useful_operations_are_counted_for_each_shape():
    jitted = jax.jit(lambda state, batch: state + batch["x"].sum())
    around = contextlib.nullcontext
    steps = Steps(jitted, (jnp.ones(()),), {}, around, print, lambda batch: 10.0 * len(batch["x"]))
    steps.ahead([batch(2), batch(3)])
    assert [steps.flops(batch(length)) for length in (3, 2)] == [30.0, 20.0]
    steps.close()
