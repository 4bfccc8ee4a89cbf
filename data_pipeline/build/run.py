"""The two passes of a build: every clip by itself, then the corpus.

  1  clips -> encoded records or reasons, kept in OUT.partial; what is there is not done again
  2  corpus statistics -> ranks into the records -> shards; OUT appears; OUT.partial goes

The first pass may be shared: any number of jobs, on hosts that see the same folder and need not
know of each other, take every so-many-th chunk of clips each. A build without a share then finds
the clips done (or does what is missing) and makes the second pass.

Invariant: the data set does not depend on the number of workers, devices or shares, on the order in
which they finish, or on whether the build was interrupted.
Tests: tests/data_pipeline/build/build_test.py.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import multiprocessing
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from data_pipeline import schema
from data_pipeline.annotate import latents
from data_pipeline.build import dataset, statistics
from data_pipeline.build.clips import Clip, read_index
from data_pipeline.build.config import BuildConfig
from data_pipeline.build.partial import Partial
from ft_jax.errors import UsageError

CHUNK = latents.BATCH  # clips annotated, then encoded together

RANKED = {"expression": "expression_raw", "body": "body_raw"}


@runtime_checkable
class Job(Protocol):
    """How one kind of data set is made from clips."""

    @property
    def widths(self) -> dict[str, int]:
        """The letters that this data set fixes."""
        ...

    def annotate(self, clip: Clip) -> Any:
        """The work per clip that needs no model; runs in worker processes.

        Raises:
            UsageError: the clip cannot be used.
        """
        ...

    @property
    def lanes(self) -> int:
        """Chunks that are encoded at once."""
        ...

    def encode(self, chunks: Sequence[Sequence[Any]]) -> list[schema.Record]:
        """The encoded records of up to `lanes` chunks of clips; runs in the main process."""
        ...

    def metadata(self) -> dict[str, Any]:
        """What stands in metadata.json beside kind, schema and widths."""
        ...


def build(
    config: BuildConfig, out: str | pathlib.Path, workers: int = 1, *, overwrite: bool = False
) -> dict[str, Any]:
    """Builds the data set `out`; an unfinished or finished build of the same config is reused.

    Args:
        config: what to build.
        out: folder of the data set.
        workers: processes for the work per clip.
        overwrite: replace a data set of another config.

    Returns:
        The content of its statistics.json.

    Raises:
        UsageError: the clips cannot be read, `out` holds something else, or no clip can be used.
    """
    schema.latent_frames(config.frames)
    folder = pathlib.Path(out)
    clips = read_index(config.clips)
    job = make_job(config, clips)
    settings = _settings(config, job, clips)
    if folder.exists() and not overwrite:
        return _existing(folder, settings)
    table = schema.TABLES[config.kind]
    partial = Partial(folder.with_name(f"{folder.name}.partial"), table, settings)
    _first_pass(job, _chunks(clips), partial, folder, workers)
    found = _second_pass(job, config, clips, partial, folder, settings)
    shutil.rmtree(partial.folder)
    return found


def build_share(
    config: BuildConfig, out: str | pathlib.Path, workers: int, share: tuple[int, int]
) -> int:
    """The first pass over a share of the clips.

    Args:
        config: what to build.
        out: folder that the data set will have; all shares see it.
        workers: processes for the work per clip.
        share: index of the share, and how many there are.

    Returns:
        Clips of the share.

    Raises:
        UsageError: as `build`; or another build is under way there.
    """
    schema.latent_frames(config.frames)
    folder = pathlib.Path(out)
    clips = read_index(config.clips)
    job = make_job(config, clips)
    settings = _settings(config, job, clips)
    index, count = share
    mine = _chunks(clips)[index::count]
    if folder.exists():
        _existing(folder, settings)
    else:
        place = folder.with_name(f"{folder.name}.partial")
        partial = Partial(place, schema.TABLES[config.kind], settings, shared=True)
        _first_pass(job, mine, partial, folder, workers)
    return sum(map(len, mine))


def make_job(config: BuildConfig, clips: Sequence[Clip]) -> Job:
    """The job of the config's kind.

    Raises:
        UsageError: no such kind, or its weights cannot be read.
    """
    if config.kind == "pixels":
        from data_pipeline.build.pixels import PixelsJob

        return PixelsJob.of(config, clips)
    if config.kind == "records":
        from data_pipeline.build.records import RecordsJob

        return RecordsJob.of(config, clips)
    raise UsageError(f"kind: {config.kind!r}; expected {' or '.join(schema.TABLES)}")


def _settings(config: BuildConfig, job: Job, clips: Sequence[Clip]) -> dict[str, Any]:
    """What the data set depends on; a restarted build must find the same."""
    return {
        "build": dataclasses.asdict(config),
        "schema": schema.VERSION,
        "metadata": job.metadata(),
        "clips": {"count": len(clips), "digest": _digest(clips)},
    }


def _digest(clips: Sequence[Clip]) -> str:
    """Of what the index says and the sizes of the files: cheap, and it sees clips drawn anew."""
    digest = hashlib.sha256()
    for clip in clips:
        sizes = [path.stat().st_size for path in (clip.video, clip.sound, clip.truth) if path]
        digest.update(json.dumps([clip.facts, sizes], sort_keys=True).encode())
    return digest.hexdigest()


def _existing(folder: pathlib.Path, settings: dict[str, Any]) -> dict[str, Any]:
    try:
        before = json.loads((folder / "config.json").read_text())
        found = json.loads((folder / "statistics.json").read_text())
    except (OSError, json.JSONDecodeError):
        raise UsageError(f"{folder}: exists and is no data set; choose another name") from None
    if before != json.loads(json.dumps(settings)):
        raise UsageError(f"{folder}: built from other clips or settings; expected --overwrite")
    return found


def _chunks(clips: Sequence[Clip]) -> list[Sequence[Clip]]:
    # The same in every run, so that a clip meets the same neighbours in an encoder.
    return [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]


def _first_pass(
    job: Job,
    chunks: Sequence[Sequence[Clip]],
    partial: Partial,
    folder: pathlib.Path,
    workers: int,
) -> None:
    from tqdm import tqdm

    pending = [chunk for chunk in chunks if not all(partial.has(clip.record_id) for clip in chunk)]
    turns = [pending[start : start + job.lanes] for start in range(0, len(pending), job.lanes)]
    total, left = (sum(map(len, some)) for some in (chunks, pending))
    bar = tqdm(total=total, initial=total - left, desc=f"{folder.name}: clips", unit="clip")
    with bar, _mapper(workers) as spread:
        ahead = [list(itertools.chain(*turn)) for turn in turns]
        attempts = spread(functools.partial(_attempt, job), ahead[0] if ahead else [])
        for number, turn in enumerate(turns, start=1):
            results = iter(list(attempts))
            if number < len(turns):  # the workers go on while the encoders run here
                attempts = spread(functools.partial(_attempt, job), ahead[number])
            seen = [[next(results) for _ in chunk] for chunk in turn]
            usable = [[found for found, _ in chunk if found is not None] for chunk in seen]
            usable = [chunk for chunk in usable if chunk]
            stored = {record["id"]: record for record in job.encode(usable)} if usable else {}
            for clip, (_, reason) in zip(ahead[number - 1], itertools.chain(*seen), strict=True):
                if reason:
                    partial.reject(clip.record_id, reason)
                else:
                    partial.put(clip.record_id, stored[clip.record_id])
            bar.update(len(ahead[number - 1]))


def _attempt(job: Job, clip: Clip) -> tuple[Any, str]:
    """What became of a clip, and if nothing, why (without the file's name: reasons are counted)."""
    try:
        return job.annotate(clip), ""
    except UsageError as error:
        reason = str(error)
        for path in (clip.video, clip.sound, clip.truth):
            reason = reason.removeprefix(f"{path}: ")
        return None, reason


@contextlib.contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Any]]:
    if workers <= 1:
        yield map
        return
    # Forking a process that runs XLA's threads can hang; a fresh one imports numpy only.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield pool.map


def _second_pass(
    job: Job,
    config: BuildConfig,
    clips: Sequence[Clip],
    partial: Partial,
    folder: pathlib.Path,
    settings: dict[str, Any],
) -> dict[str, Any]:
    table = schema.TABLES[config.kind]
    ids = [clip.record_id for clip in clips]
    rejects = partial.rejects(ids)
    kept = [name for name in ids if name not in rejects]
    if not kept:
        reason = next(iter(rejects.values()))
        raise UsageError(f"{config.clips}: no clip can be used; the first: {reason}")
    tables = _rank_tables(table, kept, partial)
    place = statistics.SCALES[config.omega]

    def rows() -> Iterator[schema.Record]:
        for name in kept:
            stored = partial.get(name)
            ranks = {
                field: place(stored[RANKED[field]], ranked) for field, ranked in tables.items()
            }
            yield stored | ranks

    seconds = len(kept) * config.frames / config.fps
    found = statistics.summary(len(kept), seconds, rejects, tables)
    metadata = {
        "kind": table.name,
        "schema": schema.VERSION,
        "widths": job.widths,
        "count": len(kept),
        **{name: getattr(config, name) for name in ("fps", "frames", "height", "width")},
        **job.metadata(),
    }
    documents = {"metadata": metadata, "statistics": found, "config": settings}
    shards = min(config.shards, len(kept))
    dataset.write(folder, table, rows(), documents, len(kept), shards)
    return found


def _rank_tables(
    table: schema.Table, kept: Sequence[str], partial: Partial
) -> dict[str, np.ndarray]:
    names = [field.name for field in table.fields if field.name in RANKED]
    if not names:
        return {}
    values = {name: [] for name in names}
    for clip in kept:
        stored = partial.get(clip)
        for name in names:
            values[name].append(stored[RANKED[name]])
    return {name: statistics.rank_table(np.array(column)) for name, column in values.items()}
