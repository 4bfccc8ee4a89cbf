"""The command: settings to a run, a run to an exit status."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from configs import codec, stage1_clip
from ft_jax.cli import train
from ft_jax.errors import UsageError
from ft_jax.sharding import mesh
from ft_jax.training.patience import NotFiniteError
from ft_jax.training.stages import Reads


def data(**changes) -> train.Data:
    values = {"path": "DATA", "weights": (), "held_out": "", "held_out_batches": 2, "batch_size": 4}
    values |= {"cache": True, "threads": 0, "prefetch": 1}
    return train.Data(**(values | changes))


@pytest.fixture
def opened(monkeypatch) -> list:
    """What the loader was asked for; it counts."""
    from data_pipeline.grain import loader, source

    calls: list = []

    def batches(config, seed, start_batch=0, encoders=None, widths=None):
        call = SimpleNamespace(config=config, seed=seed, start=start_batch, widths=widths)
        call.encoders = encoders
        calls.append(call)
        while True:
            yield {"id": np.array([start_batch])}
            start_batch += 1

    monkeypatch.setattr(loader, "batches", batches)
    monkeypatch.setattr(source, "read_metadata", lambda path: {"encoders": {"codec": path}})
    return calls


def test_the_loader_is_opened_as_the_stage_wants_it_and_where_the_run_stopped(opened):
    reads = Reads("records", ("identity",), text_len=16, widths={"c": 16})
    feed = train.Records(data(), reads, seed=5, rows=(2, 3))
    assert next(feed.train(7))["id"][0] == 7
    (call,) = opened
    assert (call.seed, call.start, call.widths) == (5, 7, {"c": 16})
    config = dataclasses.asdict(call.config)
    assert config["paths"] == ("DATA",) and config["kind"] == "records"
    assert config["fields"] == ("identity",) and config["text_len"] == 16
    assert config["rows"] == (2, 3) and config["batch_size"] == 4


def test_several_data_sets_are_named_with_commas(opened):
    feed = train.Records(data(path="A,B", weights=(1.0, 2.0)), Reads("records", ()), 5, (0,))
    next(feed.train(0))
    (call,) = opened
    assert (call.config.paths, call.config.weights) == (("A", "B"), (1.0, 2.0))
    assert feed.encoders == {"codec": "A"}


def test_held_out_batches_are_the_same_each_time(opened):
    feed = train.Records(data(held_out="OTHER"), Reads("pixels", ()), seed=5, rows=(2, 3))
    for _ in range(2):
        assert [batch["id"][0] for batch in feed.held_out()] == [0, 1]
    assert {call.config.paths[0] for call in opened} == {"OTHER"}
    assert {call.seed for call in opened} == {0}
    assert [call.encoders for call in opened] == [{"codec": "DATA"}] * 2  # those of `path`


def test_without_held_out_data_nothing_is_judged(opened):
    assert train.Records(data(), Reads("pixels", ()), 0, ()).held_out() == []
    assert not opened


def test_a_run_without_data_says_what_is_missing():
    feed = train.Records(data(path=""), Reads("pixels", ()), 0, ())
    with pytest.raises(UsageError, match=r"--config\.data\.path: not given"):
        feed.train(0)


def test_wrong_settings_are_named_by_their_flag():
    cases = {
        "config.model.codec.width": ("model", "codec", "width", "twelve"),
        "config.optim.schedule.kind": ("optim", "schedule", "kind", "linear"),
        "config.data.batch_size": ("data", None, "batch_size", 1.5),
    }
    for name, (group, inner, key, value) in cases.items():
        changed = codec.get_config("tiny").to_dict()
        place = changed[group][inner] if inner else changed[group]
        place[key] = value
        with pytest.raises(UsageError, match=name):
            train.prepare(changed)


@pytest.mark.parametrize(
    ("axes", "samples", "cores", "devices"),
    [
        ({}, 16, 2, 2),
        ({}, 16, 6, 4),  # not 6: it must divide the samples
        ({}, 3, 2, 1),
        ({"fsdp": 2}, 16, 8, 8),
        ({"fsdp": 2}, 16, 1, 2),  # what is asked for is simulated
        ({"data": 1, "context": 4}, 16, 2, 4),
    ],
)
def test_without_an_accelerator_cores_are_devices(axes, samples, cores, devices):
    assert train.cpu_devices(mesh.Config(**axes), samples, cores) == devices


def test_an_unknown_stage_is_refused():
    changed = stage1_clip.get_config("tiny").to_dict()
    changed["stage"] = "lips"
    with pytest.raises(UsageError, match="stage: got 'lips'"):
        train.prepare(changed)


def test_every_ending_has_a_status_of_its_own(capsys):
    def ends(finished: bool):
        return lambda: SimpleNamespace(finished=finished)

    def diverges():
        raise NotFiniteError("step 5: loss is nan")

    assert [train.status(run) for run in (ends(True), ends(False), diverges)] == [0, 75, 76]
    assert capsys.readouterr().err == "ft_jax: step 5: loss is nan\n"
