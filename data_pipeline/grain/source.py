"""A data set on disk as a random-access sequence of records.

Reads what `data_pipeline.build` wrote: ArrayRecord shards described by TFDS, with metadata.json
(widths, names, weight hashes) and schema.json beside them. Decoded records can be kept in memory,
since a set of small clips is read many times over.

Errors: a folder that is no data set, another schema version, another kind, or latents of other
encoder weights than the model's are refused with one line.
Tests: tests/data_pipeline/grain/loader_test.py.
"""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from data_pipeline import schema
from ft_jax.errors import UsageError


def read_metadata(path: str | pathlib.Path) -> dict[str, Any]:
    """The metadata of a data set, checked against this version of the schema.

    Raises:
        UsageError: no data set there, or written with another schema.
    """
    if "://" in str(path):
        raise UsageError(
            f"{path}: ArrayRecord reads no URLs; expected a folder on this machine, where a bucket "
            "may be mounted (Cloud Storage FUSE)"
        )
    folder = pathlib.Path(path)
    try:
        metadata = json.loads((folder / "metadata.json").read_text())
        fields = json.loads((folder / "schema.json").read_text())
    except FileNotFoundError as error:
        missing = pathlib.Path(error.filename).name
        raise UsageError(
            f"{folder}: not a data set ({missing} is missing); "
            "expected a folder written by python -m data_pipeline.build"
        ) from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{folder}: metadata cannot be read ({error}); build it again") from None
    table = schema.TABLES.get(metadata.get("kind", ""))
    if table is None or metadata.get("schema") != schema.VERSION:
        raise UsageError(
            f"{folder}: kind {metadata.get('kind')!r}, schema {metadata.get('schema')}; expected "
            f"one of {', '.join(schema.TABLES)} with schema {schema.VERSION}"
        )
    if [field["name"] for field in fields] != [field.name for field in table.fields]:
        raise UsageError(f"{folder}/schema.json: other fields than {table.name}; build it again")
    return metadata


def check_model(
    metadata: Mapping[str, Any], path: str, encoders: Mapping[str, str], widths: Mapping[str, int]
) -> None:
    """Refuses a data set that other weights or another size of model made.

    Args:
        metadata: of the data set.
        path: of the data set, for the message.
        encoders: part of the bundle -> hash of its weights, as the model has them.
        widths: letter -> size, as the model has them.

    Raises:
        UsageError: names the part or the letter and both values.
    """
    for part, wanted in sorted(encoders.items()):
        found = metadata["encoders"].get(part)
        if found != wanted:
            raise UsageError(
                f"{path}: made with {part} weights {found}, the model has {wanted}; "
                "build the data set again with this model's weights"
            )
    for letter, size in sorted(widths.items()):
        found = metadata["widths"].get(letter)
        if found != size:
            raise UsageError(f"{path}: width {letter} is {found}, the model has {size}")


class RecordSource:
    """Sequence of decoded records of one data set.

    Args:
        path: folder of the data set.
        kind: name of its table.
        fields: what to decode; empty means everything.
        cache: keep what was decoded (as views of the stored bytes) in memory.
    """

    def __init__(
        self, path: str | pathlib.Path, kind: str, fields: tuple[str, ...] = (), cache: bool = True
    ) -> None:
        self.metadata = read_metadata(path)
        if self.metadata["kind"] != kind:
            raise UsageError(f"{path}: holds {self.metadata['kind']}; expected {kind}")
        self.table = schema.TABLES[kind]
        for name in fields:
            _ = self.table[name]
        self.path = str(path)
        self._fields = fields
        self._records = self._open()
        self._kept: dict[int, schema.Record] | None = {} if cache else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames, height and width of its clips; () where it does not say."""
        names = ("frames", "height", "width")
        return tuple(self.metadata[name] for name in names if name in self.metadata)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> schema.Record:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        widths = self.metadata["widths"]
        record = schema.decode(self.table, self._records[index], widths, self._fields)
        if self._kept is not None:
            self._kept[index] = record
        return record

    def __iter__(self) -> Iterator[schema.Record]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"RecordSource({self.path!r})"

    def _open(self) -> Any:
        import tensorflow_datasets as tfds

        for name, size in self.metadata["files"].items():
            file = pathlib.Path(self.path) / name
            found = file.stat().st_size if file.is_file() else 0
            if found != size:
                raise UsageError(f"{file}: {found} bytes; expected {size}, build it again")
        with warnings.catch_warnings():  # TFDS calls what protobuf has renamed
            warnings.simplefilter("ignore", DeprecationWarning)
            builder: Any = tfds.builder_from_directory(self.path)
            return builder.as_data_source("train")
