"""Files as such: where they are, what is checked before one is read, and how one is written.

`place` makes a path of a name on this machine or in a bucket; `check` gives the messages for what
no decoder has to look at; `replacing` makes a file appear at once and complete, or not at all.

Tests: tests/media/file_test.py, tests/training/bucket_test.py (what is in a bucket).
"""

import contextlib
import importlib.util
import os
import pathlib
import tempfile
from collections.abc import Iterator

from etils import epath

from ft_jax.errors import UsageError

BUCKETS = "gs://"


def place(path: str | os.PathLike[str]) -> epath.Path:
    """A file or folder on this machine, as an absolute path, or one at gs://BUCKET/NAME.

    Raises:
      UsageError: It is a URL of another kind, or the library that reads buckets is not there.
    """
    text = os.fspath(path)
    if "://" not in text:
        return epath.Path(os.path.abspath(text))
    if not text.startswith(BUCKETS):
        raise UsageError(f"{text}: such places are not known; expected a path, or gs://BUCKET/NAME")
    if importlib.util.find_spec("gcsfs") is None:
        raise UsageError(
            f"{text}: gcsfs is not installed; expected \"pip install 'ft_jax[gcs]'\", or a path on "
            f"this machine"
        )
    from fsspec import config

    # TensorStore and other processes write there too: what was listed once is not what is there.
    config.conf["gcs"] = {**config.conf.get("gcs", {}), "use_listings_cache": False}
    return epath.Path(text)


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of something in a bucket."""
    return os.fspath(path).startswith(BUCKETS)


def upload(path: epath.Path, content: bytes) -> None:
    """Makes an object of a bucket.

    In one request, and not by `write_bytes`: that leaves a buffer behind where the bucket refuses,
    over which CPython 3.12.1 ends with a segmentation fault when it collects garbage.
    """
    import fsspec

    fsspec.filesystem("gcs", finalize_on_close=True).pipe_file(os.fspath(path), content)


@contextlib.contextmanager
def on_disk(path: epath.Path) -> Iterator[pathlib.Path]:
    """The file on this machine, for libraries that open only such; one of a bucket is copied."""
    if not is_remote(path):
        yield pathlib.Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / path.name
        path.copy(copy)
        yield copy


def check(path: pathlib.Path, expected: str) -> None:
    """Raises a UsageError unless `path` is a readable file with something in it.

    Args:
      path: The file.
      expected: What it should have been, for the message.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; expected {expected}")
        if not path.exists():
            raise UsageError(f"{path}: no such file; expected {expected}")
        if path.stat().st_size == 0:
            raise UsageError(f"{path}: the file is empty; expected {expected}")
        with path.open("rb"):
            pass
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected {expected}") from None


def check_target(path: pathlib.Path, suffix: str) -> None:
    """Raises a UsageError unless a file `path`, ending in `suffix`, could be written.

    Asked before the work starts, so that minutes of computing are not lost on a typing error.
    """
    if path.suffix.lower() != suffix:
        ending = path.suffix or "nothing"
        raise UsageError(f"{path}: the name ends in {ending}; expected {suffix}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; expected the name of a file to write")
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{path}: cannot be written; expected a folder one may write to")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a name beside `path` to write to; it becomes `path` if all goes well.

    Missing folders are made. On an exception the half-written file is removed and what stood at
    `path` before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: libraries choose the format by it.
    beside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
