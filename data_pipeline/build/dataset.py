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

import contextlib
import functools
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from data_pipeline import schema

Rows = Callable[[], Iterable[schema.Record]]


def write(
    folder: pathlib.Path, table: schema.Table, rows: Rows, documents: Mapping[str, Any], shards: int
) -> None:
    """Writes the data set to `folder`; what stood there is gone once the new one is whole.

    Args:
        folder: where it is to stand.
        table: of the records.
        rows: gives the encoded records (schema.encode), in the order they are stored.
        documents: name -> content of the JSON files beside the records; "metadata" is needed.
        shards: number of files.
    """
    import tensorflow_datasets as tfds

    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    builder = builder_class()(table=table, rows=rows, data_dir=beside / "tfds")
    options = tfds.download.DownloadConfig(num_shards=shards)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces downloads; there are none
        builder.download_and_prepare(download_config=options, file_format="array_record")
    written = pathlib.Path(builder.data_path)
    files = {path.name: path.stat().st_size for path in sorted(written.iterdir())}
    metadata = documents["metadata"] | {"files": files}
    described = {**documents, "metadata": metadata, "schema": schema.describe(table)}
    for name, content in described.items():
        (written / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    if folder.exists():
        folder.rename(beside / "replaced")
    written.rename(folder)
    shutil.rmtree(beside)


@functools.cache
def builder_class() -> type:
    """The TFDS builder; made on first use, since importing TFDS takes a second."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    # Not for tfds.load by name: these data sets are opened by folder.
    with registered.skip_registration():

        class TalkingClips(tfds.core.GeneratorBasedBuilder):
            """Clips of talking people, one record each."""

            VERSION = tfds.core.Version(f"{schema.VERSION}.0.0")

            def __init__(self, *, table: schema.Table, rows: Rows, **kwargs: Any) -> None:
                self._table = table
                self._rows = rows
                super().__init__(file_format="array_record", **kwargs)

            def _info(self) -> Any:
                features = tfds.features.FeaturesDict(
                    {field.name: _feature(field) for field in self._table.fields}
                )
                return tfds.core.DatasetInfo(builder=self, features=features)

            def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
                del dl_manager
                return {"train": self._generate_examples()}

            def _generate_examples(self) -> Iterator[tuple[str, schema.Record]]:
                for row in self._rows():
                    yield row["id"], row

    return TalkingClips


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
