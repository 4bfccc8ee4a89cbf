"""Batches of a data set, in an order that is a pure function of (seed, step).

Several data sets are mixed by weight (data_pipeline/grain/mixture.py). Those of one shape (frames,
height, width) make a bucket; a batch comes from one bucket, drawn from (seed, step), so that all
hosts take the same, and its rows from the bucket's data sets, drawn from (seed, row).

The records of a data set are permuted anew in every epoch from (seed, epoch), and the transforms
draw from a generator made of (seed, position in that order). So batch k is the same however it is
reached: a checkpoint stores only how many batches were consumed, and `start_batch` skips without
reading. With several hosts each reads some rows of the same global batch. Grain reads ahead.

  records or pixels -> permuted, repeated -> mixed -> transforms -> stacked -> read ahead by threads

Batches hold the schema's fields (numpy, uint8 frames left as they are) and always `id`.
Invariants: batches(c, s, k) equals batches(c, s) after k; the shares of the hosts together are
the batch of one host.
Tests: tests/data_pipeline/grain/loader_test.py.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_pipeline.grain import source, transforms
from data_pipeline.grain.mixture import Mixture
from data_pipeline.schema import Record
from ft_jax.errors import UsageError

Batch = dict[str, np.ndarray]

_ENDLESS = 1 << 48  # batches; Grain wants a length


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """What to read and how to cut it.

    Attributes:
        paths: folders of the data sets.
        weights: share of the rows that come from each, in any unit; empty means by their sizes.
        batch_size: records in one global batch.
        kind: "pixels" or "records".
        fields: fields of the batch; empty means all. `id` is always there.
        frames: length 4 n + 1 of a random sub-clip (pixels); 0 keeps the whole clip.
        faces: random face crops per clip (pixels); 0 keeps all of them.
        text_len: rows that text_tokens are padded to (records); 0 leaves them.
        cache: keep records in memory once read.
        threads: that read ahead; 0 reads when asked.
        prefetch: batches read ahead.
        rows: of every global batch that this host reads; empty means all.
    """

    paths: tuple[str, ...]
    batch_size: int
    kind: str
    weights: tuple[float, ...] = ()
    fields: tuple[str, ...] = ()
    frames: int = 0
    faces: int = 0
    text_len: int = 0
    cache: bool = True
    threads: int = 2
    prefetch: int = 4
    rows: tuple[int, ...] = ()


def batches(
    config: LoaderConfig,
    seed: int,
    start_batch: int = 0,
    encoders: Mapping[str, str] | None = None,
    widths: Mapping[str, int] | None = None,
) -> Iterator[Batch]:
    """Endless batches from `start_batch` on.

    Args:
        config: what to read.
        seed: of the order and of the random cuts.
        start_batch: number of batches already consumed.
        encoders: part -> weight hash of the model; refuses a data set made with others.
        widths: letter -> size of the model; refuses a data set of others.

    Raises:
        UsageError: the data set is missing, of another kind, made for another model, too small.
    """
    import grain

    corpora = _open(config, seed, encoders or {}, widths or {})
    steps = grain.MapDataset.source(_Steps(corpora, config, seed))[start_batch:]
    options = grain.ReadOptions(
        num_threads=config.threads, prefetch_buffer_size=config.prefetch if config.threads else 0
    )
    return _one_line_errors(iter(steps.to_iter_dataset(options)))


def shapes(config: LoaderConfig, seed: int) -> list[Batch]:
    """One batch of every shape that `batches` yields, in the order of the data sets.

    Raises:
        UsageError: as `batches`.
    """
    return _Steps(_open(config, seed, {}, {}), config, seed).samples()


def _open(
    config: LoaderConfig, seed: int, encoders: Mapping[str, str], widths: Mapping[str, int]
) -> list[source.RecordSource]:
    chosen = tuple(dict.fromkeys(("id", *config.fields))) if config.fields else ()
    if len(set(config.paths)) < len(config.paths):
        raise UsageError(f"path: {','.join(config.paths)}; expected each data set once")
    corpora = []
    for path in config.paths:
        records = source.RecordSource(path, config.kind, chosen, config.cache)
        source.check_model(records.metadata, path, encoders, widths)
        if not len(records):
            raise UsageError(f"{path}: holds no records")
        corpora.append(records)
    _check(config, seed)
    return corpora


def _one_line_errors(steps: Iterator[Batch]) -> Iterator[Batch]:
    """Grain adds a note about its traceback to the message of what a transform raises."""
    try:
        yield from steps
    except UsageError as error:
        raise UsageError(str(error).splitlines()[0]) from None


class _Steps:
    """Batch of each step: rows [step * batch_size, ...) of the data order, those of this host."""

    def __init__(
        self, corpora: Sequence[source.RecordSource], config: LoaderConfig, seed: int
    ) -> None:
        self._corpora, self._config, self._seed = corpora, config, seed
        weights = config.weights or tuple(map(len, corpora))
        buckets: dict[tuple[int, ...], list[int]] = {}
        for number, records in enumerate(corpora):
            buckets.setdefault(records.shape, []).append(number)
        self._buckets = list(buckets.values())
        totals = [sum(weights[number] for number in members) for members in self._buckets]
        self._of_steps = Mixture(totals, (seed, 0, 0, 2))
        self._of_rows = [
            Mixture([weights[number] for number in members], (seed, place, 0, 3))
            for place, members in enumerate(self._buckets)
        ]
        # Both ends of an epoch are in use at once, by threads that read ahead. Grain's own shuffle
        # takes milliseconds a record on small data sets.
        self._permutation = functools.lru_cache(4 * len(corpora))(
            lambda corpus, epoch: np.random.default_rng((seed, epoch, corpus)).permutation(
                len(corpora[corpus])
            )
        )

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> Batch:
        return self._batch(*self._of_steps.turn(int(index)))

    def samples(self) -> list[Batch]:
        """The first batch of each bucket."""
        return [self._batch(bucket, 0) for bucket in range(len(self._buckets))]

    def _batch(self, bucket: int, number: int) -> Batch:
        size = self._config.batch_size
        rows = self._config.rows or range(size)
        return transforms.stack([self._row(bucket, number * size + row) for row in rows])

    def _row(self, bucket: int, place: int) -> Record:
        member, position = self._of_rows[bucket].turn(place)
        corpus = self._buckets[bucket][member]
        epoch, place = divmod(position, len(self._corpora[corpus]))
        record = self._corpora[corpus][int(self._permutation(corpus, epoch)[place])]
        # A third number keeps these draws apart from those of the permutations.
        rng = np.random.default_rng((self._seed, position, 1, corpus))
        return _transform(record, rng, self._config)


def _transform(record: Record, rng: np.random.Generator, config: LoaderConfig) -> Record:
    if config.frames:
        record = transforms.sub_clip(record, config.frames, rng)
    if config.faces and "faces" in record:
        record = transforms.pick_faces(record, config.faces, rng)
    if config.text_len and "text_tokens" in record:
        record = transforms.pad_text(record, config.text_len)
    return record


def _check(config: LoaderConfig, seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed: {seed}; expected 0 or more")
    if config.batch_size < 1:
        raise UsageError(f"batch_size: {config.batch_size}; expected 1 or more")
    if config.weights and (len(config.weights) != len(config.paths) or min(config.weights) <= 0):
        raise UsageError(
            f"weights: {config.weights}; expected {len(config.paths)} positive numbers, one for "
            f"each data set"
        )
    sound = {"audio", "phonemes"} & set(config.fields or ("audio",))
    if config.frames and (config.kind != "pixels" or sound):
        raise UsageError(
            f"frames: {config.frames}; sub-clips exist for pixels without audio and phonemes, "
            "name the other fields in `fields`"
        )
