"""Steps whose loss or gradient is not finite: passed over, noted with their records, then the end.

Such a step has changed nothing (ft_jax/training/step.py). Each leaves one line in
WORKDIR/bad_batches.jsonl (each further process writes a file of its own); more than `limit` of them
in a row stop the run.

Tests: tests/training/patience_test.py, loop_test.py.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax

CODE = 76
"""Exit status of a run that was stopped because its loss or gradient stayed not finite."""
WATCHED = ("loss", "gradient_norm")
SHOWN = 4  # records in the message


class NotFiniteError(Exception):
    """The run stops; the message names step, number, records and the file that has them all."""


class Patience:
    """Counts the steps in a row that were not finite."""

    def __init__(self, workdir: Path, limit: int) -> None:
        """`limit` of them in a row are passed over; nothing is written before there is one."""
        process = jax.process_index()
        name = f"bad_batches.{process}.jsonl" if process else "bad_batches.jsonl"
        self._path, self._limit, self._row = workdir / name, limit, 0

    def is_finite(self, step: int, values: Mapping[str, float], ids: Sequence[str]) -> bool:
        """Whether a step counts; notes it where it does not.

        Args:
          step: Its number.
          values: Its metrics, `WATCHED` among them.
          ids: Records of its batch, those of this process.

        Raises:
          NotFiniteError: It was one too many in a row.
        """
        bad = [name for name in WATCHED if not math.isfinite(values[name])]
        if not bad:
            self._row = 0
            return True
        self._row += 1
        records = [str(record) for record in ids]
        note = {"step": step, "ids": records, "metrics": {k: str(v) for k, v in values.items()}}
        with self._path.open("a") as file:
            file.write(json.dumps(note) + "\n")
        if self._row > self._limit:
            before = f" after {self._limit} that were passed over" if self._limit else ""
            more = ", ..." if len(records) > SHOWN else ""
            raise NotFiniteError(
                f"step {step}: {bad[0]} is {values[bad[0]]}{before}; expected a finite number "
                f"(records {', '.join(records[:SHOWN])}{more}; all of them: {self._path.name})"
            )
        return False
