"""Writes records as an ArrayRecord data set through TFDS, without TensorFlow.

  DATA/*.array_record-*     the records (several shards)
  DATA/features.json, dataset_info.json     what TFDS reads
  DATA/metadata.json        kind, widths, names, weight hashes: what the loader checks
  DATA/schema.json          the table; DATA/statistics.json, DATA/config.json: how it came about

The folder appears complete or not at all: everything is written beside and renamed. The same
records give the same bytes.
Tests: tests/data_pipeline/build/build_test.py.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipeline import schema

_CHUNK = 64  # records; the writer rewrites its description after each


def write(
    folder: pathlib.Path,
    table: schema.Table,
    rows: Iterable[schema.Record],
    documents: Mapping[str, Any],
    count: int,
    shards: int,
) -> None:
    """Writes the data set to `folder`; what stood there is gone once the new one is whole.

    Args:
        folder: where it is to stand.
        table: of the records.
        rows: the encoded records (schema.encode), in the order they are stored; a few are in
            memory at a time.
        documents: name -> content of the JSON files beside the records; "metadata" is needed.
        count: number of records.
        shards: number of files.
    """
    import tensorflow_datasets as tfds

    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    written = beside / "tfds"
    written.mkdir(parents=True)
    version = tfds.core.Version(f"{schema.VERSION}.0.0")
    identity = tfds.core.DatasetIdentity(
        name="talking_clips", version=version, data_dir=str(written), module_name=__name__
    )
    features = {field.name: _feature(field) for field in table.fields}
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features), disable_shuffling=True
    )
    # Not GeneratorBasedBuilder: that keeps up to a gigabyte of records in memory, to shuffle them,
    # and needs TensorFlow beyond. The order is drawn at reading (data_pipeline.grain).
    writer = tfds.core.SequentialWriter(info, -(-count // shards), file_format="array_record")
    writer.initialize_splits(["train"])
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, _CHUNK)):
        writer.add_examples({"train": chunk})
    writer.close_all()
    files = {path.name: path.stat().st_size for path in sorted(written.iterdir())}
    metadata = documents["metadata"] | {"files": files}
    described = {**documents, "metadata": metadata, "schema": schema.describe(table)}
    for name, content in described.items():
        (written / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    if folder.exists():
        folder.rename(beside / "replaced")
    written.rename(folder)
    shutil.rmtree(beside)


def _feature(field: schema.Field) -> Any:
    import tensorflow_datasets as tfds

    if field.dtype == "int":
        return tfds.features.Scalar(np.int64)
    if field.dtype == "float":
        return tfds.features.Scalar(np.float32)
    # A string is bytes of any length, which is what arrays are stored as.
    return (
        tfds.features.Text()
        if field.dtype == "str"
        else tfds.features.Tensor(shape=(), dtype=np.object_)
    )
