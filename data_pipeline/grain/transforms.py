"""What happens to one decoded record on its way into a batch; numpy in, numpy out.

  sub_clip     pixels: a run of 4 n + 1 frames at a random start, with what belongs to them
  pick_faces   pixels: some of the face crops
  pad_text     records: text rows up to a fixed length, zeros beyond the prompt
  stack        records of equal shapes -> one batch

Randomness comes in as a generator that the loader derives from (seed, position in the data order),
so a batch depends on nothing else.
Tests: tests/data_pipeline/grain/loader_test.py.
"""

from collections.abc import Sequence

import numpy as np

from data_pipeline.schema import PIXELS, TIME_STRIDE, Record
from ft_jax.errors import UsageError

PER_FRAME = tuple(field.name for field in PIXELS.fields if field.dims.split()[:1] == ["f"])


def sub_clip(record: Record, frames: int, rng: np.random.Generator) -> Record:
    """Cuts `frames` consecutive frames out of every per-frame field, the start chosen by `rng`.

    Raises:
        UsageError: `frames` is not 4 n + 1, or the clip is shorter.
    """
    if frames % TIME_STRIDE != 1:
        raise UsageError(f"frames: {frames}; expected a multiple of {TIME_STRIDE} plus 1")
    length = next(len(record[name]) for name in PER_FRAME if name in record)
    if length < frames:
        raise UsageError(f"frames: {frames}; clip {record['id']} has only {length}")
    start = int(rng.integers(length - frames + 1))
    cut = {name: record[name][start : start + frames] for name in PER_FRAME if name in record}
    return record | cut


def pick_faces(record: Record, count: int, rng: np.random.Generator) -> Record:
    """Chooses `count` of the face crops; with repetition only where there are fewer.

    Raises:
        UsageError: the clip has no crop at all.
    """
    crops = record["faces"]
    if not len(crops):
        raise UsageError(f"faces: clip {record['id']} has none; build the data set again")
    chosen = rng.choice(len(crops), count, replace=len(crops) < count)
    return record | {"faces": crops[chosen]}


def pad_text(record: Record, length: int) -> Record:
    """Pads text_tokens with zero rows to `length`.

    Raises:
        UsageError: the prompt is longer than the model's text length.
    """
    rows = record["text_tokens"]
    if len(rows) > length:
        raise UsageError(
            f"text_len: {length}; the prompt of clip {record['id']} has {len(rows)} tokens"
        )
    padded = np.zeros((length, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    return record | {"text_tokens": padded}


def stack(records: Sequence[Record]) -> dict[str, np.ndarray]:
    """One array per field with the batch in front.

    Raises:
        UsageError: names the field whose shapes differ, and two clips that show it.
    """
    batch = {}
    for name in records[0]:
        values = [record[name] for record in records]
        first = np.shape(values[0])
        for record, value in zip(records, values, strict=True):
            if np.shape(value) != first:
                raise UsageError(
                    f"{name}: clip {records[0]['id']} has shape {list(first)}, "
                    f"clip {record['id']} {list(np.shape(value))}; a batch needs equal shapes"
                )
        batch[name] = np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)
    return batch
