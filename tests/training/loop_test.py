import gc
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from ft_jax.checkpoints import handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten
from ft_jax.errors import UsageError
from ft_jax.training import loop
from tests.training.toy import Feed, Toy, settings

FROZEN = (("denoiser/dit/.*", 0.0), (".*", 1.0))


def final(workdir: Path) -> dict[str, np.ndarray]:
    manager = Manager(workdir)
    try:
        saved = manager.restore()
        assert saved is not None
        return flatten(saved.trees)
    finally:
        manager.close()


class StopAfter(Feed):
    """Asks the process to stop when batch `number` has been made."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def train(self, start):
        for count, batch in enumerate(super().train(start), start):
            if count == self.number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """A finished run of the default settings; copy it to change it."""
    workdir = tmp_path_factory.mktemp("done") / "base"
    loop.train(settings(), Toy(), Feed(), workdir, {})
    return workdir


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(done, tmp_path):
    first = loop.train(settings(), Toy(), StopAfter(5), tmp_path, {})
    assert not first.finished and 0 < first.step < 8
    feed = Feed()
    second = loop.train(settings(), Toy(), feed, tmp_path, {})
    assert second.finished and feed.opened[0] == first.step
    whole, parts = final(done), final(tmp_path)
    assert whole.keys() == parts.keys()
    for path, leaf in whole.items():
        np.testing.assert_array_equal(leaf, parts[path], err_msg=path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 8
    assert [line["step"] for line in lines if "held_out" in line] == [0, 4, 8]


def test_a_finished_run_is_left_as_it_is(done):
    before = (done / "log.jsonl").read_text()
    assert loop.train(settings(), Toy(), Feed(), done, {}).finished
    assert (done / "log.jsonl").read_text() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_newest_checkpoint_is_passed_over_and_written_again(done, tmp_path, caplog):
    shutil.copytree(done, tmp_path / "hurt")
    newest = tmp_path / "hurt" / "checkpoints" / "8"
    for file in (newest / "params").rglob("*"):
        if file.is_file() and "/d/" in str(file):
            file.write_bytes(file.read_bytes()[:5])
    loop.train(settings(), Toy(), Feed(), tmp_path / "hurt", {})
    assert str(newest) in caplog.text
    whole, hurt = final(done), final(tmp_path / "hurt")
    for path, leaf in whole.items():
        np.testing.assert_array_equal(leaf, hurt[path], err_msg=path)
    gc.collect()  # what Orbax leaves behind of the damaged checkpoint


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_records(tmp_path):
    with pytest.raises(UsageError, match="step 5: loss is nan"):
        loop.train(settings(), Toy(), Feed(bad=5), tmp_path, {})
    note = json.loads((tmp_path / "bad_batch.json").read_text())
    assert note["step"] == 5 and note["ids"] == [f"record-5-{k}" for k in range(4)]
    assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) < 6


@pytest.fixture(scope="module")
def adapters(done, tmp_path_factory) -> Path:
    """A finished run that trains `audio` over the frozen `dit` of `done`."""
    workdir = tmp_path_factory.mktemp("adapters")
    run = settings(groups=FROZEN, init_from=str(done), init_require=".*", num_steps=4)
    loop.train(run, Toy(), Feed(), workdir, {})
    return workdir


def test_frozen_parameters_keep_their_values_and_are_in_no_checkpoint(done, adapters):
    saved = final(adapters)
    assert saved and all("dit" not in path for path in saved)
    base, adapter = handover.read(done), handover.read(adapters)
    kernel = "denoiser/dit/kernel"
    np.testing.assert_array_equal(flatten(base.parts)[kernel], flatten(adapter.parts)[kernel])
    assert adapter.base is not None and adapter.base["path"] == str(done)


def test_a_run_refuses_another_base_than_it_was_started_from(done, tmp_path):
    shutil.copytree(done, tmp_path / "base")
    run = settings(groups=FROZEN, init_from=str(tmp_path / "base"), num_steps=4)
    loop.train(run, Toy(), StopAfter(0), tmp_path / "adapter", {})
    shutil.rmtree(tmp_path / "base" / "checkpoints" / "8")
    with pytest.raises(UsageError, match="other weights than this run was started from"):
        loop.train(settings(groups=FROZEN), Toy(), Feed(), tmp_path / "adapter", {})


def test_stage_two_starts_from_the_average_of_stage_one_and_names_the_base(
    done, adapters, tmp_path
):
    two = settings(groups=FROZEN, init_from=str(adapters), init_require=".*", num_steps=8)
    assert loop.train(two, Toy(), StopAfter(0), tmp_path, {}).step < 8
    source = handover.read(tmp_path)
    assert source.base is not None and source.base["path"] == str(done)
    average = final(adapters)["ema/denoiser/audio/bias"]
    moved = flatten(source.parts)["denoiser/audio/bias"]
    assert np.abs(average).min() > 0.03  # training has moved it from its initial zeros
    assert np.abs(average - moved).max() < 0.02


def test_data_that_other_encoders_made_is_refused(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    loop.train(settings(), Toy(), Feed(codec="one"), first, {})
    run = settings(init_from=str(first), num_steps=2)
    with pytest.raises(UsageError, match=r"data\.path: codec two; .* with codec one"):
        loop.train(run, Toy(), Feed(codec="two"), second, {})
    assert loop.train(run, Toy(), Feed(codec="one"), second, {}).finished


def test_a_frozen_part_without_weights_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no weights for the frozen denoiser/dit/kernel"):
        loop.train(settings(groups=FROZEN), Toy(), Feed(), tmp_path, {})


def test_the_folder_of_another_run_is_refused(done):
    with pytest.raises(UsageError, match="another"):
        loop.train(settings(), Toy({"denoiser": {"width": 4}}), Feed(), done, {})


def test_how_it_is_computed_and_what_it_does_not_train_may_change_under_a_run(done):
    system = {"denoiser": {"width": 3, "remat": "full"}, "codec": {"width": 2}}
    assert loop.train(settings(), Toy(system), Feed(), done, {}).finished


def test_a_batch_that_the_mesh_does_not_divide_is_refused(tmp_path):
    run = settings(accumulate=3)
    with pytest.raises(UsageError, match=r"data\.batch_size: 4; expected a multiple of 3"):
        loop.train(run, Toy(), Feed(), tmp_path, {})


def test_what_a_stage_adds_reaches_whoever_reads_the_run(done):
    assert handover.read(done).system == {**Toy().system, "seen": "record-0-0"}
