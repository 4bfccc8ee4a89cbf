"""The small files of a run in a bucket: written to a folder on this machine, and copied from there.

Logs and event files grow line by line, traces and clips are written by libraries; an object of a
bucket appears as a whole and never grows. So a run at gs:// writes all but its checkpoints and
`system.json` to a temporary folder, and a thread puts what has changed into the bucket, every
`SECONDS` and at the end; also while the run hangs, so that the stacks of the watchdog arrive. A
kill loses what was written since. A run on this machine writes where it is, and nothing is copied.

Tests: tests/training/bucket_test.py.
"""

import logging
import os
import shutil
import tempfile
import threading
from pathlib import Path

import jax
from etils import epath

from ft_jax.errors import UsageError
from ft_jax.media import file

SECONDS = 30.0
CONTINUED = (".jsonl", ".txt")
"""Files that a resumed run appends to: they are fetched when it begins."""


class Mirror:
    """The folder that a run at `place` writes its small files to."""

    def __init__(self, place: epath.Path) -> None:
        """Makes the folder, with the files that are continued.

        Raises:
          UsageError: There is no such bucket, or one may not write to it.
        """
        self._place, self._known = place, dict[Path, tuple[int, int]]()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if not file.is_remote(place):
            self.folder = Path(place)
            return
        self.folder = Path(tempfile.mkdtemp(prefix="ft_jax."))
        try:
            _try_to_write(place)
            self._fetch()
        except Exception as error:  # of several libraries: no such bucket, no right, no network
            shutil.rmtree(self.folder)
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UsageError(f"{place}: {reason}; expected a bucket one may write to") from None
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copies what is left; the folder goes, unless that failed."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join()
        self._thread = None
        if self._copy():
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            logging.warning("%s: not all files are there; they are in %s", self._place, self.folder)

    def _fetch(self) -> None:
        for found in self._place.iterdir() if self._place.exists() else ():
            if found.suffix in CONTINUED:
                copy = self.folder / found.name
                found.copy(copy)
                self._known[copy] = _state(copy)

    def _work(self) -> None:
        while not self._ended.wait(SECONDS):
            self._copy()

    def _copy(self) -> bool:
        """Whether all that has changed is there now; what is not is tried again next time."""
        is_whole = True
        for path in sorted(self.folder.rglob("*")):
            is_beside = path.name.startswith(".") or path.suffix == ".tmp"  # not there yet
            try:
                state = _state(path)  # before it is read: what comes later is another change
                if path.is_dir() or is_beside or not state[1] or self._known.get(path) == state:
                    continue
                file.upload(self._place / path.relative_to(self.folder), path.read_bytes())
                self._known[path] = state
            except FileNotFoundError:  # renamed or removed since it was listed
                continue
            except Exception as error:  # of the network: a run does not stop for its log
                is_whole = False
                logging.warning("%s: %s is not copied (%s)", self._place, path.name, error)
        return is_whole


def _try_to_write(place: epath.Path) -> None:
    trial = place / f".trial.{jax.process_index()}"
    file.upload(trial, b"")
    trial.unlink()


def _state(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size
