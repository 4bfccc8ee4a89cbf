"""Writing: a file appears complete or not at all, and impossible names are known beforehand."""

from pathlib import Path

import pytest

from ft_jax.errors import UsageError
from ft_jax.media import file


def test_a_file_is_not_seen_before_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with file.replacing(target) as beside:
        beside.write_text("new")
        assert beside.parent == tmp_path and beside.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_an_exception_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), file.replacing(tmp_path / "a.txt") as beside:
        beside.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_target_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        file.check_target(tmp_path / "plain" / "a.mp4", ".mp4")
    file.check_target(tmp_path / "not" / "yet" / "a.mp4", ".mp4")
