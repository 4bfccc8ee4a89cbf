"""Weights of a system as one Orbax checkpoint directory, written and read leaf by leaf.

    DIR/params     the parameters {part: ...}, an Orbax PyTree: plain Orbax restores it
    DIR/meta       JSON: the configuration of the system; types and shapes of the arrays
    DIR/digests    JSON: SHA-256 of each array, so that no host reads all of them to know what they
                   are (missing in folders of earlier versions)

What `ft_jax.cli.convert` makes of published weights. Orbax is handed lazy arrays; a handler of
their type reads one, writes it and lets it go before it reads the next, so that host memory holds
one stacked array at a time. Arrays are stored in pieces of 64 MB, without compression: weights do
not compress; whoever wants a slice reads the pieces in which it lies. Written under another name
beside and renamed.

Tests: tests/checkpoints/weights_test.py; memory: benchmarks/convert_memory.py.
"""

import functools
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from etils import epath
from orbax.checkpoint import type_handlers

from ft_jax.checkpoints.tree import content, unflatten
from ft_jax.errors import UsageError
from ft_jax.lazy import Index, Lazy
from ft_jax.media import file
from ft_jax.typing import Params

DIGESTS = "digests"
PIECE_BYTES = 64 * 2**20
"""Of an array in one file; this is also what writing needs beyond the array itself, a few times."""


def is_weights(path: str | os.PathLike[str]) -> bool:
    """Is there such a directory?"""
    place = file.place(path)
    return (place / "params" / "_METADATA").exists() and (place / "meta").is_dir()


def save(
    path: str | os.PathLike[str], system: Mapping[str, Any], leaves: Mapping[str, Lazy]
) -> None:
    """Writes a directory that does not exist yet.

    Args:
      path: Of the directory.
      system: Configuration of the system.
      leaves: {path: array}, as `part/path/to/leaf`; read one after the other.

    Raises:
      UsageError: There is something at `path`, or it cannot be written.
    """
    target = Path(path).absolute()
    check_target(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    tree = unflatten(leaves)
    writer = _OneByOne()
    pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=PIECE_BYTES), tree)
    arguments = ocp.args.Composite(
        params=ocp.args.PyTreeSave(tree, save_args=pieces),
        meta=ocp.args.JsonSave({"system": dict(system), "arrays": _listed(leaves)}),
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with ocp.Checkpointer(
            ocp.CompositeCheckpointHandler(
                params=_handler(writer), meta=ocp.JsonCheckpointHandler()
            )
        ) as checkpointer:
            checkpointer.save(beside, args=arguments)
        (beside / DIGESTS).write_text(json.dumps(writer.digests, indent=1, sort_keys=True))
        beside.rename(target)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}; expected a folder to write to") from None
    except ValueError as error:  # TensorStore's, whose text has the system's
        reason = _reason(error)
        if reason is None:
            raise
        raise UsageError(f"{target}: {reason}; expected a folder to write to") from None
    finally:
        for rest in target.parent.glob(f"{beside.name}*"):
            shutil.rmtree(rest, ignore_errors=True)


def check_target(path: str | os.PathLike[str]) -> None:
    """Raises a UsageError if there is something at `path`."""
    if os.path.lexists(path):
        raise UsageError(f"{path}: exists; expected the name of a new folder")


def load(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Params]]:
    """Opens a directory: (configuration of the system, {part: parameters as lazy arrays}).

    Raises:
      UsageError: The directory is damaged.
    """
    path = file.place(path)
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            meta = checkpointer.restore(path / "meta", args=ocp.args.JsonRestore())
        noted = path / DIGESTS
        digests = json.loads(noted.read_text()) if noted.exists() else {}
        # Not what Orbax says of the arrays: for that it opens all of them at once, and when one is
        # damaged it leaves while TensorStore still works on the others.
        leaves = {
            name: Lazy(
                tuple(shape),
                np.dtype(dtype),
                functools.partial(_read, path / "params" / name.replace("/", "."), ()),
                functools.partial(_read, path / "params" / name.replace("/", ".")),
                digests.get(name, ""),
            )
            for name, (dtype, shape) in meta["arrays"].items()
        }
        return meta["system"], unflatten(leaves)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: damaged ({_first(error)}); expected weights") from None


def _listed(leaves: Mapping[str, Lazy]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (leaf.dtype.name, leaf.shape) for name, leaf in leaves.items()}


def _read(place: epath.Path, index: Index) -> np.ndarray:
    """A part of one array; () is all of it. Reads the pieces in which the part lies.

    Not by Orbax, which looks at all of them each time: 30 ms instead of one.
    """
    files = {"driver": "file", "path": str(place)}
    store = {
        "driver": "zarr3",
        "kvstore": f"{place}/" if file.is_remote(place) else files,
        "fill_missing_data_reads": False,  # a file that is gone is no array of zeros
    }
    try:
        return tensorstore.open(store, read=True).result()[index].read().result()
    except ValueError as error:
        raise UsageError(f"{place}: damaged ({_first(error)}); expected weights") from None


class _OneByOne(type_handlers.NumpyHandler):
    """Writes lazy arrays as numpy arrays are written, each before the next is read."""

    def __init__(self) -> None:
        super().__init__(deepcopy_host_arrays=False)
        self.digests: dict[str, str] = {}  # of what was written so far, by path

    async def serialize(
        self,
        values: Sequence[Any],
        infos: Sequence[type_handlers.ParamInfo],
        args: Sequence[ocp.SaveArgs] | None = None,
    ) -> Sequence[Any]:
        """Returns when everything is written."""
        for index, (value, info) in enumerate(zip(values, infos, strict=True)):
            array = np.asarray(value)
            self.digests[info.name.replace(".", "/")] = content(array)
            await self._write(array, info, None if args is None else args[index])
            del array  # before the next one is read
        return []

    async def _write(
        self, array: np.ndarray, info: type_handlers.ParamInfo, arg: ocp.SaveArgs | None
    ) -> None:
        for written in await super().serialize([array], [info], None if arg is None else [arg]):
            written.result()


def _handler(writer: _OneByOne) -> ocp.PyTreeCheckpointHandler:
    registry = type_handlers.create_type_handler_registry((Lazy, writer))
    # Without OCDBT, which keeps what it writes in memory until the end.
    return ocp.PyTreeCheckpointHandler(
        type_handler_registry=registry, use_ocdbt=False, use_zarr3=True, use_compression=False
    )


def _reason(error: Exception) -> str | None:
    """What the operating system said, in a message of TensorStore."""
    found = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(found[1])) if found else None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
