import dataclasses
import gc
import json
import os
import shutil
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.checkpoints import handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten, merge
from ft_jax.errors import UsageError
from ft_jax.training import flops, loop
from ft_jax.training.patience import NotFiniteError
from tests.training.toy import EVERY, WATCH, Feed, Toy, settings

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


def test_a_loss_that_stays_not_finite_stops_the_run_and_names_its_records(tmp_path):
    run = settings(watch=dataclasses.replace(WATCH, bad_steps=1))
    wanted = r"step 5: loss is nan after 1 .*record-5-0, record-5-1.*bad_batches\.jsonl"
    with pytest.raises(NotFiniteError, match=wanted):
        loop.train(run, Toy(), Feed(bad=(4, 5)), tmp_path, {})
    notes = [json.loads(line) for line in (tmp_path / "bad_batches.jsonl").read_text().splitlines()]
    assert [note["step"] for note in notes] == [4, 5]
    assert notes[1]["ids"] == [f"record-5-{k}" for k in range(4)]
    assert max(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) < 6


def test_steps_that_are_not_finite_are_passed_over_and_the_run_goes_on(tmp_path):
    run = settings(watch=dataclasses.replace(WATCH, bad_steps=2))
    summary = loop.train(run, Toy(), Feed(bad=(1, 2, 5)), tmp_path, {})
    assert summary.finished and np.isfinite(summary.held_out["loss"])
    assert all(np.isfinite(leaf).all() for leaf in final(tmp_path).values())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines if "skipped" in line] == [1, 1, 1, 0]


def test_the_best_checkpoint_stays_beside_the_newest_and_every_so_many(tmp_path):
    class Leaving(Toy):
        """`apart` grows while the loss falls: the bias leaves its initial zeros."""

        def loss(self, trained, frozen, batch, key, train):
            value, metrics = super().loss(trained, frozen, batch, key, train)
            bias = merge(trained, frozen)["denoiser"]["audio"]["bias"]
            return value, {**metrics, "apart": jnp.sum(jnp.square(bias))}

    every = dataclasses.replace(EVERY, evaluate=2, keep=1, keep_every=6, best="apart")
    loop.train(settings(every=every, num_steps=10), Leaving(), Feed(), tmp_path, {})
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    apart = {line["step"]: line["held_out"]["apart"] for line in lines if "held_out" in line}
    best = min((step for step in apart if step), key=apart.__getitem__)
    assert best == 2 and kept == {2, 6, 10}


def leaf(workdir: Path | str) -> np.ndarray:
    return flatten(handover.read(workdir).parts)["denoiser/audio/bias"]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> Path:
    """A run that gets worse after its second step, and keeps its best and all others."""

    class Worse(Toy):
        def loss(self, trained, frozen, batch, key, train):
            value, metrics = super().loss(trained, frozen, batch, key, train)
            return value, {
                **metrics,
                "moved": jnp.sum(jnp.abs(trained["denoiser"]["dit"]["kernel"])),
            }

    workdir = tmp_path_factory.mktemp("chosen")
    every = dataclasses.replace(EVERY, evaluate=2, best="moved")
    loop.train(settings(every=every, num_steps=6), Worse(), Feed(), workdir, {})
    return workdir


def test_a_checkpoint_of_a_run_is_named_by_its_step_and_the_best_by_that_word(chosen):
    steps = {step: leaf(chosen / "checkpoints" / str(step)) for step in (2, 4, 6)}
    assert len({x.tobytes() for x in steps.values()}) == 3
    np.testing.assert_array_equal(leaf(chosen), steps[6])
    np.testing.assert_array_equal(leaf(chosen / "checkpoints" / "best"), steps[2])


def test_a_run_that_begins_at_the_best_names_it_by_its_step(chosen, tmp_path):
    run = settings(groups=FROZEN, init_from=f"{chosen}/checkpoints/best", num_steps=2)
    loop.train(run, Toy(), StopAfter(0), tmp_path, {})
    base = handover.read(tmp_path).base
    assert base is not None and base["path"] == str(chosen / "checkpoints" / "2")
    assert loop.train(run, Toy(), Feed(), tmp_path, {}).finished  # and finds it again


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("3", r"checkpoints/3: no such checkpoint; expected one of \[8, 6, 4\]"),
        (
            "best",
            r"checkpoints/best: this run keeps no best checkpoint; expected one of \[8, 6, 4\]",
        ),
    ],
)
def test_a_checkpoint_that_a_run_does_not_have_is_refused(done, name, said):
    with pytest.raises(UsageError, match=said):
        handover.read(done / "checkpoints" / name)


def test_a_run_is_watched_as_its_settings_say(tmp_path, monkeypatch):
    monkeypatch.setitem(flops.PEAKS, "cpu", 1e12)
    asked = dataclasses.replace(WATCH, hang_seconds=60.0, profile=(1, 2), tensorboard=True)
    loop.train(settings(num_steps=4, watch=asked), Toy(), Feed(), tmp_path, {})
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert list((tmp_path / "tensorboard").iterdir())
    assert not (tmp_path / "hang.0.txt").exists()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (*_, last) = [line for line in lines if "mfu" in line]
    # One product of 4 x 3 by 3 x 3, forward and for the trained kernel.
    operations = last["mfu"] * 1e12 * last["step_seconds"]
    assert operations == pytest.approx(2 * (2 * 4 * 3 * 3))
    assert last["goodput"]["start"] > 0 and last["goodput"]["evaluation"] > 0


def test_previews_are_made_when_they_are_due_from_the_average_of_that_step(tmp_path, monkeypatch):
    shown = {}

    def show(self, params, step):
        shown[step] = {path: np.array(leaf) for path, leaf in flatten(params).items()}
        return tmp_path / f"{step}.mp4"

    monkeypatch.setattr(loop.Preview, "__init__", lambda *arguments: None)
    monkeypatch.setattr(loop.Preview, "due", lambda self, step: step in (2, 4))
    monkeypatch.setattr(loop.Preview, "show", show)
    loop.train(settings(), Toy(), Feed(), tmp_path, {})
    assert list(shown) == [2, 4]
    for step in ("6", "8"):
        shutil.rmtree(tmp_path / "checkpoints" / step)
    saved = final(tmp_path)
    assert {f"ema/{path}" for path in shown[4]} == saved.keys()
    for path, leaf in shown[4].items():
        np.testing.assert_array_equal(leaf, saved[f"ema/{path}"], err_msg=path)


def test_what_can_not_stay_is_refused(tmp_path):
    for changes in ({"keep_every": 3}, {"best": "loss", "evaluate": 0}, {"keep": 0}, {"log": 0}):
        with pytest.raises(UsageError, match=r"^every\."):
            dataclasses.replace(EVERY, **changes)
    every = dataclasses.replace(EVERY, best="psnr")
    with pytest.raises(UsageError, match="no held-out 'psnr'; expected one of"):
        loop.train(settings(every=every), Toy(), Feed(), tmp_path, {})


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
    with pytest.raises(UsageError, match=r"another run, of seed 3; expected --config\.seed=3"):
        loop.train(settings(seed=4), Toy(), Feed(), done, {})


def test_how_it_is_computed_and_what_it_does_not_train_may_change_under_a_run(done):
    system = {"denoiser": {"width": 3, "remat": "full"}, "codec": {"width": 2}}
    assert loop.train(settings(), Toy(system), Feed(), done, {}).finished


def test_a_batch_that_the_mesh_does_not_divide_is_refused(tmp_path):
    run = settings(accumulate=3)
    with pytest.raises(UsageError, match=r"data\.batch_size: 4; expected a multiple of 3"):
        loop.train(run, Toy(), Feed(), tmp_path, {})


def test_what_a_stage_adds_reaches_whoever_reads_the_run(done):
    assert handover.read(done).system == {**Toy().system, "seen": "record-0-0"}
