"""A progress bar with an estimate, for whatever takes longer than two seconds.

Tests: tests/cli/generate_test.py (through the command).
"""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function (done, total) that keeps a bar on stderr up to date.

    Nothing is shown before two seconds have passed. Where stderr is no terminal, the bar is written
    every ten seconds at most, and stays.

    Args:
      what: What is being done, one or two words.
    """
    from tqdm import tqdm

    is_terminal = sys.stderr.isatty()
    shown = tqdm(
        desc=what,
        total=1,
        delay=2,
        mininterval=0.2 if is_terminal else 10.0,
        bar_format="{desc} {percentage:3.0f} % |{bar:30}| {elapsed}, {remaining} left",
        leave=not is_terminal,
    )

    def report(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    try:
        yield report
    finally:
        shown.close()
