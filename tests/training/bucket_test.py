"""Runs at gs://, against a server of objects on this machine (gcs_server.py)."""

import dataclasses
import gc
import importlib.util
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.grain import source
from ft_jax.checkpoints import bundle, handover, weights
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy
from ft_jax.media import file
from ft_jax.training import loop, mirror
from tests.training import gcs_server
from tests.training.loop_test import FROZEN, StopAfter, final
from tests.training.toy import WATCH, Feed, Toy, settings

WATCHED = settings(watch=dataclasses.replace(WATCH, tensorboard=True, hang_seconds=3600.0))


@pytest.fixture(scope="module")
def server() -> Iterator[gcs_server.Server]:
    with gcs_server.running() as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, np.ndarray]:
    """What an uninterrupted run on disk ends with."""
    workdir = tmp_path_factory.mktemp("whole")
    loop.train(settings(), Toy(), Feed(), workdir, {})
    return final(workdir)


@pytest.fixture(scope="module")
def stopped(server) -> str:
    """A run in the bucket that was told to stop, and went on to its end."""
    run = "gs://bucket/stopped"
    first = loop.train(WATCHED, Toy(), StopAfter(5), run, {})
    assert not first.finished and 0 < first.step < 8
    feed = Feed()
    assert loop.train(WATCHED, Toy(), feed, run, {}).finished and feed.opened[0] == first.step
    return run


def copied(server: gcs_server.Server, run: str, name: str) -> str:
    """Another run in the bucket, to be hurt."""
    own = run.removeprefix("gs://bucket/")
    for path in server.names(f"{own}/"):
        server.put(path.replace(own, name, 1), server.objects[path])
    return f"gs://bucket/{name}"


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for path, leaf in wanted.items():
        np.testing.assert_array_equal(leaf, found[path], err_msg=path)


def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_on_disk(stopped, whole):
    same(final(stopped), whole)


def test_all_that_a_run_writes_is_in_the_bucket_and_nothing_stays_here(server, stopped):
    lines = [json.loads(line) for line in server.objects["stopped/log.jsonl"].splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 8
    assert [line["step"] for line in lines if "held_out" in line] == [0, 4, 8]
    assert len(server.names("stopped/tensorboard/events")) == 2
    kept = {name.split("/")[2] for name in server.names("stopped/checkpoints/")}
    # The newest three: the other is 4, or 5 where it was told to stop there.
    assert kept in ({"4", "6", "8"}, {"5", "6", "8"})
    assert {name.split("/")[1] for name in server.names("stopped/")} == {
        "checkpoints", "log.jsonl", "system.json", "tensorboard"
    }  # fmt: skip
    assert not Path("gs:").exists()


def test_a_save_that_a_kill_has_cut_off_does_not_count_and_is_made_again(
    server, stopped, whole, caplog
):
    run = copied(server, stopped, "killed")
    del server.objects["killed/checkpoints/8/commit_success.txt"]
    del server.objects["killed/system.json"]
    server.put("killed/checkpoints/8/params/manifest.ocdbt", b"half")
    feed = Feed()
    assert loop.train(settings(), Toy(), feed, run, {}).finished and feed.opened[0] == 6
    assert "passed over" not in caplog.text
    same(final(run), whole)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_passed_over_by_name_and_written_again(
    server, stopped, whole, caplog
):
    run = copied(server, stopped, "hurt")
    for name in server.names("hurt/checkpoints/8/params/"):
        if "/d/" in name:
            server.put(name, server.objects[name][:5])
    loop.train(settings(), Toy(), Feed(), run, {})
    assert "checkpoint passed over: gs://bucket/hurt/checkpoints/8" in caplog.text
    same(final(run), whole)
    gc.collect()  # what Orbax leaves behind of the damaged checkpoint


def test_a_run_starts_from_one_in_a_bucket_and_names_it(stopped, tmp_path):
    run = settings(groups=FROZEN, init_from=stopped, init_require=".*", num_steps=2)
    loop.train(run, Toy(), StopAfter(0), tmp_path, {})
    found = handover.read(tmp_path)
    assert found.base is not None and found.base["path"] == stopped
    assert handover.read(stopped).system["seen"] == "record-0-0"
    assert loop.train(run, Toy(), Feed(), tmp_path, {}).finished  # reads the base again
    one = handover.read(f"{stopped}/checkpoints/6")
    assert one.path == "gs://bucket/stopped/checkpoints/6"


def test_a_bundle_and_a_folder_of_weights_are_read_where_they_lie(server, tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    bundle.save(tmp_path / "some.safetensors", {"fps": 1}, {"codec": {"kernel": kernel}})
    lazy = Lazy(kernel.shape, kernel.dtype, lambda: kernel)
    weights.save(tmp_path / "folder", {"fps": 1}, {"codec/kernel": lazy})
    for path in tmp_path.rglob("*"):
        if path.is_file():
            server.put(f"weights/{path.relative_to(tmp_path)}", path.read_bytes())
    for name in ("some.safetensors", "folder"):
        found = handover.read(f"gs://bucket/weights/{name}").part("codec")["kernel"]
        np.testing.assert_array_equal(np.asarray(found[slice(1, 2), slice(0, 3)]), kernel[1:])
    with pytest.raises(UsageError, match=r"gs://bucket/weights/none: no such file or folder"):
        handover.read("gs://bucket/weights/none")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("gs://elsewhere/run", "gs://elsewhere/run: .*; expected a bucket one may write to"),
        ("gs://bucket/refused", "gs://bucket/refused: .*; expected a bucket one may write to"),
        ("s3://bucket/run", "s3://bucket/run: .*; expected a path, or gs://BUCKET/NAME"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_said_before_anything_else(server, place, said):
    server.refused = "^refused/"
    with pytest.raises(UsageError, match=said):
        loop.train(settings(), Toy(), Feed(), place, {})


def test_without_the_library_a_bucket_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"gs://bucket/run: gcsfs is not installed; .*\[gcs\]"):
        file.place("gs://bucket/run")


def test_what_others_write_is_seen_at_once(server):
    folder = file.place("gs://bucket/shared")
    for name in ("one", "two"):
        server.put(f"shared/{name}", b"")
        assert name in {found.name for found in folder.iterdir()}


def test_records_in_a_bucket_are_refused():
    with pytest.raises(UsageError, match=r"gs://bucket/records: .*; expected a folder on this"):
        source.read_metadata("gs://bucket/records")


@pytest.fixture
def mirrored(server, monkeypatch) -> Iterator[mirror.Mirror]:
    monkeypatch.setattr(mirror, "SECONDS", 0.01)
    server.put("mirror/log.jsonl", b"one\n")
    made = mirror.Mirror(file.place("gs://bucket/mirror"))
    yield made
    made.close()


def await_object(server, name: str, content: bytes) -> None:
    for _ in range(6000):
        if server.objects.get(name) == content:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{name} is {server.objects.get(name)}")


def test_files_arrive_while_a_run_hangs_and_the_last_lines_at_its_end(server, mirrored):
    (mirrored.folder / "hang.0.txt").write_text("stack")
    await_object(server, "mirror/hang.0.txt", b"stack")
    with (mirrored.folder / "log.jsonl").open("a") as log:
        log.write("two\n")
    (mirrored.folder / ".half.part.mp4").write_text("half a clip")
    mirrored.close()
    assert server.objects["mirror/log.jsonl"] == b"one\ntwo\n"
    assert server.names("mirror/") == ["mirror/hang.0.txt", "mirror/log.jsonl"]
    assert not mirrored.folder.exists()


def test_what_cannot_be_copied_stays_here_and_is_told(server, mirrored, caplog):
    server.refused = "mirror/log"
    (mirrored.folder / "log.jsonl").write_text("three")
    with caplog.at_level(logging.WARNING):
        mirrored.close()
    server.refused = ""
    assert f"not all files are there; they are in {mirrored.folder}" in caplog.text
    assert (mirrored.folder / "log.jsonl").read_text() == "three"
