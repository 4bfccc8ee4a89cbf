"""A corpus on disk: many clips, several processes, resumable.

In: what to make (`Order`). Out: a folder of clips and index.jsonl. The one idea: a clip is a pure
function of its number, so workers need nothing from each other, and what is there already is
skipped; the index names complete clips only, also after an interruption.

Tests: tests/data_pipeline/world/write_test.py.
"""

import concurrent.futures
import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.world import source, write


@dataclasses.dataclass(frozen=True)
class Order:
    """Which clips to make."""

    out: Path
    split: str
    seed: int
    clips: int
    first: int = 0
    frames: int = 33
    pool: Path | None = None  # folder with more speech; None for the embedded one

    def choose(self, number: int) -> source.Choice:
        """What clip `number` is made of."""
        return source.choose(self.split, self.seed, number, self.frames, self.pool)


def make_clip(order: Order, number: int) -> None:
    """Make and write one clip."""
    write.write_clip(order.out, source.render(order.choose(number)))


def make(order: Order, workers: int = 1) -> None:
    """Make what is missing of an order, then write the index."""
    from tqdm import tqdm

    (order.out / "clips").mkdir(parents=True, exist_ok=True)
    choices = {n: order.choose(n) for n in range(order.first, order.first + order.clips)}
    todo = [n for n, choice in choices.items() if not write.is_complete(order.out, choice.id)]
    bar = tqdm(total=len(choices), initial=len(choices) - len(todo), desc="world", unit="clip")
    try:
        with bar:
            for _ in _made(order, todo, workers):
                bar.update()
    finally:
        done = [c for c in choices.values() if write.is_complete(order.out, c.id)]
        write.write_index(order.out, [write.index_row(choice) for choice in done])


def _made(order: Order, todo: list[int], workers: int) -> Iterator[None]:
    if workers <= 1:
        for number in todo:
            yield make_clip(order, number)
        return
    # spawned, not forked: the parent may hold threads of an accelerator library
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        jobs = [pool.submit(make_clip, order, number) for number in todo]
        try:
            for job in concurrent.futures.as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()
