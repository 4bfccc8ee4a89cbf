"""One compiled step for every shape of batch, compiled ahead by a thread.

The first shape is compiled first and trains while the others are compiled. A thread alone does it,
in one order, so that the processes of a run agree on it.

Tests: tests/training/steps_test.py.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class Steps:
    """Called like the step; picks the compiled one of the batch's shapes."""

    def __init__(
        self,
        jitted: Any,
        given: tuple[Any, ...],
        options: Mapping[str, Any],
        around: Callable[[], AbstractContextManager[Any]],
        say: Callable[[str], None],
        count: Callable[[Any], float] | None = None,
    ) -> None:
        """Compiles nothing yet.

        Args:
          jitted: The step under `jax.jit`; its last argument is a batch.
          given: Its other arguments, arrays with their shardings; not kept.
          options: For the compiler.
          around: The context to compile in: what names axes is known to one thread only.
          say: Is told how long a step took to compile, and what memory it needs.
          count: Gives the useful operations of a step on an (abstract) batch.
        """
        self._jitted, self._given = jitted, abstract(given)
        self._options, self._around, self._say = dict(options), around, say
        self._count = count or (lambda batch: 0.0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._compiled: dict[Shapes, Future[tuple[Any, float]]] = {}

    def ahead(self, batches: Iterable[Mapping[str, jax.Array]]) -> None:
        """Compiles for batches like these, one after the other, without waiting."""
        for batch in batches:
            key = _shapes(batch)
            if key not in self._compiled:
                self._compiled[key] = self._thread.submit(self._compile, abstract(batch))

    def wait(self, batch: Mapping[str, jax.Array]) -> None:
        """Returns when the step for such a batch is there."""
        self.ahead([batch])
        self._compiled[_shapes(batch)].result()

    def __call__(self, *arguments: Any) -> Any:
        """The step of the batch, which is the last argument; waits if it is not there yet."""
        batch = arguments[-1]
        self.wait(batch)
        return self._compiled[_shapes(batch)].result()[0](*arguments)

    def flops(self, batch: Mapping[str, jax.Array]) -> float:
        """Useful operations of the step of such a batch, which is there; 0 if nobody counts."""
        return self._compiled[_shapes(batch)].result()[1]

    def close(self) -> None:
        """Drops what waits to be compiled, and waits for what is."""
        self._thread.shutdown(cancel_futures=True)

    def _compile(self, batch: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        with self._around():
            compiled = self._jitted.lower(*self._given, batch).compile(self._options)
            useful = self._count(batch)
        memory = compiled.memory_analysis()
        size = (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 2**20 if memory else 0
        self._say(f"compiled in {time.perf_counter() - began:.0f} s, {size:.0f} MiB per device")
        return compiled, useful


def abstract(tree: Any) -> Any:
    """Shapes, types and shardings of a tree of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def _shapes(batch: Mapping[str, jax.Array]) -> Shapes:
    return tuple((name, batch[name].shape) for name in sorted(batch))
