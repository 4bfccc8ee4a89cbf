"""The training command in several processes: what one gives, wherever it goes on."""

from pathlib import Path

import numpy as np
import pytest

from tests.processes import runs
from tests.training import gcs_server

# Samples over four devices, each sample over two, and weights over four: of two processes, that is
# half of them on each.
EIGHT = ("--config.mesh.data=1", "--config.mesh.fsdp=4", "--config.mesh.context=2")
ONE = ("--config.mesh.data=1",)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Flags that name data and base."""
    folder = tmp_path_factory.mktemp("given")
    data, base = runs.data_set(folder, "a", 20), runs.base(folder)
    return f"--config.data.path={data}", f"--config.init_from={base}"


@pytest.fixture(scope="module")
def alone(given: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of three steps on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    return runs.losses(runs.run(workdir, 1, (*given, *ONE, "--config.num_steps=3")))


def test_two_processes_of_four_devices_give_what_one_device_gives_and_one_process_goes_on(
    given: tuple[str, ...], alone: list[float], tmp_path: Path
):
    """The checkpoint of two processes holds whole arrays and a number of batches, nothing else."""
    shown = runs.preview(tmp_path)
    first = runs.run(tmp_path / "run", 2, (*given, *EIGHT, *shown, "--config.num_steps=2"))
    clips = [path.name for path in (tmp_path / "run" / "previews").iterdir()]
    assert clips == ["0000001.mp4"]  # one process makes it, from weights of which each has a half
    np.testing.assert_allclose(runs.losses(first), alone[:2], rtol=1e-5)
    both = runs.run(tmp_path / "run", 1, (*given, *EIGHT, "--config.num_steps=3"))
    assert both[: len(first)] == first  # it went on, and read the batches that follow
    np.testing.assert_allclose(runs.losses(both), alone, rtol=1e-5)


def test_a_sample_may_lie_on_several_processes_that_jax_finds_by_itself(
    given: tuple[str, ...], alone: list[float], tmp_path: Path
):
    """Under Slurm a process has one device; both read the same rows."""
    flags = (*given, *ONE, "--config.mesh.context=2", "--config.num_steps=1")
    found = runs.losses(runs.run(tmp_path, 2, flags, slurm=True))
    np.testing.assert_allclose(found, alone[:1], rtol=1e-5)


def test_two_processes_run_in_a_bucket_from_weights_in_it_and_find_their_compiled_step_again(
    given: tuple[str, ...], alone: list[float], tmp_path: Path
):
    data, _, base = given[0], *given[1].split("=", 1)
    with gcs_server.running() as server:
        for path in Path(base).rglob("*"):
            if path.is_file():
                server.put(f"base/{path.relative_to(base)}", path.read_bytes())
        flags = (data, "--config.init_from=gs://bucket/base", *EIGHT)
        run = "gs://bucket/run"
        first = runs.run(run, 2, (*flags, "--config.num_steps=2"))
        np.testing.assert_allclose(runs.losses(first), alone[:2], rtol=1e-5)
        compiled = server.names("run/compiled/")
        assert compiled
        both = runs.run(run, 2, (*flags, "--config.num_steps=3"))
        assert both[: len(first)] == first
        np.testing.assert_allclose(runs.losses(both), alone, rtol=1e-5)
        assert set(server.names("run/checkpoints/")) and server.names("run/compiled/") == compiled
