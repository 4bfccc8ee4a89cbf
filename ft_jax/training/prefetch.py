"""Batches prepared and placed on the device by a thread, while the device computes.

Order is the loader's; the thread only runs ahead by `depth` batches. An exception of the loader is
raised where the batch would have come out.

Tests: tests/training/prefetch_test.py.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END = object()


class Prefetch(Generic[T]):
    """An iterator over `place(item)` for the items of `source`, computed ahead."""

    def __init__(self, source: Iterator[Any], place: Callable[[Any], T], depth: int = 2) -> None:
        """Starts the thread."""
        self._source, self._place = source, place
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> "Prefetch[T]":
        return self

    def __next__(self) -> T:
        item = self._queue.get()
        if item is _END:
            self._queue.put(_END)
            raise StopIteration
        if isinstance(item, BaseException):
            self._queue.put(_END)
            raise item
        return item

    def close(self) -> None:
        """Stops the thread; items that are ready are dropped."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.05)

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put(self._place(item)):
                    return
            self._put(_END)
        except BaseException as error:  # handed to whoever asks for the next batch
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
