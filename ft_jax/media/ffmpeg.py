"""ffmpeg as a library (PyAV): loaded late, silent, and reading nothing but the named file.

Tests: through tests/media/sound_test.py and tests/media/video_test.py.
"""

import pathlib
from typing import Any


def load() -> Any:
    """PyAV's module; importing it costs a tenth of a second, so it happens where it is used."""
    import av

    quiet: Any = av
    quiet.logging.set_level(quiet.logging.PANIC)  # ffmpeg writes to stderr by itself otherwise
    return quiet


def open_file(path: pathlib.Path) -> Any:
    """Opens a file for reading; a playlist cannot make ffmpeg fetch what it names."""
    return load().open(str(path.resolve()), options={"protocol_whitelist": "file"})
