"""The command: what goes into the file, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import models
from ft_jax.checkpoints import bundle
from ft_jax.checkpoints.tree import flatten

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A bundle of two parts; the command reads names, not what they are good for."""
    leaf = np.ones(2, np.float32)
    parts: dict[str, Any] = {"denoiser": {"dit": {"k": leaf}, "audio": {"k": leaf}}}
    path = tmp_path / "source.safetensors"
    bundle.save(path, models.get_config("tiny").to_dict(), parts | {"face": {"k": leaf}})
    return path


def run(source: Path, *given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ft_jax.cli.bundle", "--config=configs/models.py:tiny"]
    return subprocess.run(
        [*command, f"--out={source.with_name('out.safetensors')}", *given, str(source)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([], ["denoiser/audio/k", "denoiser/dit/k", "face/k"]),
        (["--keep=denoiser/(audio|identity)/.*"], ["denoiser/audio/k"]),
    ],
)
def test_everything_is_kept_unless_told_otherwise(
    source: Path, given: list[str], kept: list[str]
) -> None:
    done = run(source, *given)
    assert done.returncode == 0, done.stderr
    assert sorted(flatten(bundle.load(source.with_name("out.safetensors"))[1])) == kept


def test_keeping_nothing_is_refused(source: Path) -> None:
    done = run(source, "--keep=audio")
    assert done.returncode == 2
    assert done.stderr == (
        "ft_jax: --keep: 'audio' matches no parameter; expected a pattern of whole paths\n"
    )
    assert not source.with_name("out.safetensors").exists()


def test_a_url_to_write_to_is_refused(source: Path) -> None:
    done = run(source, "--out=gs://bucket/out.safetensors")
    assert done.returncode == 2
    assert done.stderr == (
        "ft_jax: --out=gs://bucket/out.safetensors: a URL; expected a name on this machine\n"
    )
