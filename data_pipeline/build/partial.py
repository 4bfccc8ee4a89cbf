"""Results per clip, kept on disk until the data set is written, so that a build can be restarted.

  OUT.partial/config.json         of the build; another config starts afresh
  OUT.partial/clips/<n>.npz       one encoded record
  OUT.partial/clips/<n>.json      or why the clip was left out

Every file is written beside and renamed, so what is there is whole. Nothing in them is executed
when they are read.
Tests: tests/data_pipeline/build/build_test.py.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

from data_pipeline.schema import Record, Table
from ft_jax.errors import UsageError
from ft_jax.media import file


class Partial:
    """The results so far of one build.

    Args:
        folder: where they lie; made if missing, emptied if it belongs to another config.
        table: of the records.
        config: of the build, as plain JSON values.
        shared: several jobs begin here at once, so none of them may empty it.

    Raises:
        UsageError: it is shared, and belongs to another config.
    """

    def __init__(
        self, folder: pathlib.Path, table: Table, config: dict[str, Any], *, shared: bool = False
    ) -> None:
        self.folder = folder
        self._table = table
        settings = json.dumps(config, indent=1, sort_keys=True)
        mark = folder / "config.json"
        if shared:
            (folder / "clips").mkdir(parents=True, exist_ok=True)
            if not mark.is_file():
                # Processes of two containers may have one number.
                beside = pathlib.Path(tempfile.mkdtemp(dir=folder))
                (beside / mark.name).write_text(settings)
                (beside / mark.name).replace(mark)
                beside.rmdir()
            if mark.read_text() != settings:
                raise UsageError(
                    f"{folder}: a build of other clips or settings; expected the same in all "
                    f"shares, or remove the folder"
                )
        elif not mark.is_file() or mark.read_text() != settings:
            shutil.rmtree(folder, ignore_errors=True)
            (folder / "clips").mkdir(parents=True)
            mark.write_text(settings)

    def has(self, clip: str) -> bool:
        """Whether the clip is done, as a record or as a reject."""
        return self._path(clip, ".npz").is_file() or self._path(clip, ".json").is_file()

    def put(self, clip: str, stored: Record) -> None:
        """Keeps an encoded record."""
        columns: dict[str, Any] = {
            name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.array(value)
            for name, value in stored.items()
        }
        with file.replacing(self._path(clip, ".npz")) as beside:
            np.savez(beside, **columns)

    def reject(self, clip: str, reason: str) -> None:
        """Notes that the clip is left out, and why."""
        with file.replacing(self._path(clip, ".json")) as beside:
            beside.write_text(json.dumps({"reason": reason}))

    def get(self, clip: str) -> Record:
        """The encoded record of a clip that was not left out."""
        with np.load(self._path(clip, ".npz"), allow_pickle=False) as columns:
            return {
                field.name: columns[field.name].tobytes()
                if field.is_array
                else columns[field.name].item()
                for field in self._table.fields
            }

    def rejects(self, clips: list[str]) -> dict[str, str]:
        """Id -> reason of the clips that were left out."""
        paths = {clip: self._path(clip, ".json") for clip in clips}
        return {
            clip: json.loads(path.read_text())["reason"]
            for clip, path in paths.items()
            if path.is_file()
        }

    def _path(self, clip: str, suffix: str) -> pathlib.Path:
        # Ids hold slashes; a hash is a name on every file system.
        name = hashlib.sha256(clip.encode()).hexdigest()[:24]
        return self.folder / "clips" / f"{name}{suffix}"
