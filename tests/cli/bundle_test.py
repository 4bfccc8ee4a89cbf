"""The command: what goes into the file, and what it refuses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from configs import models
from ft_jax.checkpoints import bundle as files
from ft_jax.checkpoints.tree import flatten
from ft_jax.cli import bundle
from ft_jax.errors import UsageError

# ml_collections reads config files in a way that Python warns about.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A bundle of two parts; the command reads names, not what they are good for."""
    leaf = np.ones(2, np.float32)
    parts: dict[str, Any] = {"denoiser": {"dit": {"k": leaf}, "audio": {"k": leaf}}}
    path = tmp_path / "source.safetensors"
    files.save(path, models.get_config("tiny").to_dict(), parts | {"face": {"k": leaf}})
    return path


def written(source: Path, **given: str) -> list[str]:
    out = source.with_name("out.safetensors")
    command = ["bundle", "--config=configs/models.py:tiny", f"--out={out}"]
    with flagsaver.flagsaver():
        flags.FLAGS(command + [f"--{name}={value}" for name, value in given.items()])
        bundle.main([str(source)])
    return sorted(flatten(files.load(out)[1]))


def test_everything_is_kept_unless_told_otherwise(source: Path) -> None:
    assert written(source) == ["denoiser/audio/k", "denoiser/dit/k", "face/k"]
    assert written(source, keep="denoiser/(audio|identity)/.*") == ["denoiser/audio/k"]


def test_keeping_nothing_is_refused(source: Path) -> None:
    with pytest.raises(UsageError, match=re.escape("--keep: 'audio' matches no parameter")):
        written(source, keep="audio")
    assert not source.with_name("out.safetensors").exists()
