import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.annotate import observe
from data_pipeline.build import __main__, run
from data_pipeline.build.config import BuildConfig
from data_pipeline.grain.source import RecordSource
from ft_jax.config import build
from ft_jax.errors import UsageError
from ft_jax.media import video


def config(clips: pathlib.Path, **changes: object) -> BuildConfig:
    settings = {"kind": "pixels", "clips": str(clips), "frames": 17, "face": 24, "shards": 2}
    return build(BuildConfig, settings | changes)


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pixels_hold_what_the_clips_show(clips: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = run.build(config(clips), tmp_path / "data")
    records = {record["id"]: record for record in RecordSource(tmp_path / "data", "pixels")}
    assert len(records) == 5
    assert found["clips"] == 5 and found["rejects"] == {}
    record = records["fake/clip04/0"]
    seen = video.read(clips / "clips" / "clip04.mp4").frames
    means = seen.reshape(17, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(record["frames"] - means).max() <= 1
    assert record["person_index"] == 1 and record["caption"] == "number 4"
    assert record["audio"].shape == (int(17 / 23 * 16000),) and record["audio"].max() > 5000
    assert record["faces"].shape == (8, 24, 24, 3)
    assert record["phonemes"].shape == (int(17 / 23 * 16000 - 400) // 320 + 1,)
    metadata = json.loads((tmp_path / "data" / "metadata.json").read_text())
    assert metadata["persons"] == ["p0", "p1", "p2"]
    assert len(list((tmp_path / "data").glob("*.array_record*"))) == 2


def test_records_lie_in_the_order_of_the_clips(clips: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run.build(config(clips), tmp_path / "data")
    stored = [record["id"] for record in RecordSource(tmp_path / "data", "pixels")]
    assert stored == [f"fake/clip0{i}/0" for i in range(5)]


def test_restarted_build_gives_the_same_bytes(
    clips: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.build(config(clips), tmp_path / "once")
    annotate, seen = run._attempt, []

    def interrupted(job: run.Job, clip: run.Clip) -> object:
        seen.append(clip.id)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return annotate(job, clip)

    monkeypatch.setattr(run, "CHUNK", 2)
    monkeypatch.setattr(run, "_attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.build(config(clips), tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    run.build(config(clips), tmp_path / "twice")
    assert seen[4:] == ["clip02", "clip03", "clip04"]
    assert contents(tmp_path / "once") == contents(tmp_path / "twice")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["once", "twice"]


def test_shares_together_are_the_build(
    clips: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.build(config(clips), tmp_path / "once")
    monkeypatch.setattr(run, "CHUNK", 2)
    annotate, seen = run._attempt, []

    def noted(job: run.Job, clip: run.Clip) -> object:
        seen.append(clip.id)
        return annotate(job, clip)

    monkeypatch.setattr(run, "_attempt", noted)
    assert run.build_share(config(clips), tmp_path / "data", 1, (1, 2)) == 2
    assert seen == ["clip02", "clip03"]
    for _ in range(2):  # the second time it finds all done
        assert run.build_share(config(clips), tmp_path / "data", 1, (0, 2)) == 3
    assert sorted(seen) == [f"clip0{number}" for number in range(5)]
    assert not (tmp_path / "data").exists()
    run.build(config(clips), tmp_path / "data")
    assert len(seen) == 5
    assert contents(tmp_path / "data") == contents(tmp_path / "once")
    assert run.build_share(config(clips), tmp_path / "data", 1, (0, 2)) == 3


def test_a_share_of_another_build_empties_nothing(
    clips: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run.build_share(config(clips), tmp_path / "data", 1, (0, 1))
    kept = sorted((tmp_path / "data.partial").rglob("*"))
    with pytest.raises(UsageError, match=r"data.partial: a build of other clips or settings"):
        run.build_share(config(clips, crops=2), tmp_path / "data", 1, (0, 1))
    assert sorted((tmp_path / "data.partial").rglob("*")) == kept


def test_the_command_line_takes_a_share(
    clips: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"pixels --clips={clips} --out={tmp_path}/data --frames=17 --workers=1 --share="
    __main__.main((flags + "0/1").split())
    said = capsys.readouterr().out
    assert said.endswith("share 0/1 is done (5 clips); without --share it is written\n")
    for text in ("1/1", "a/2", "1"):
        with pytest.raises(UsageError, match=f"--share: '{text}'; expected INDEX/COUNT"):
            __main__.main((flags + text).split())


def test_unfinished_build_of_other_settings_is_not_continued(
    clips: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "_second_pass", interrupted)
        run.build(config(clips, face=24), tmp_path / "data")
    run.build(config(clips, face=32), tmp_path / "data")
    assert RecordSource(tmp_path / "data", "pixels")[0]["faces"].shape[1] == 32


def test_finished_build_is_left_as_it_is(clips: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run.build(config(clips), tmp_path / "data")
    before = (tmp_path / "data").stat().st_mtime_ns
    run.build(config(clips), tmp_path / "data")
    assert (tmp_path / "data").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"data: built from other clips or settings"):
        run.build(config(clips, face=32), tmp_path / "data")
    run.build(config(clips, face=32), tmp_path / "data", overwrite=True)
    assert RecordSource(tmp_path / "data", "pixels")[0]["faces"].shape[1] == 32


def test_clips_that_cannot_be_used_are_counted_by_reason(
    clips: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "source"
    (folder / "clips").mkdir(parents=True)
    for path in (clips / "clips").iterdir():
        (folder / "clips" / path.name).write_bytes(path.read_bytes())
    (folder / "index.jsonl").write_text((clips / "index.jsonl").read_text())
    (folder / "clips" / "clip01.mp4").write_bytes(b"no video")
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    video.write(folder / "clips" / "clip02.mp4", frames, 23.0)
    found = run.build(config(folder), tmp_path / "data")
    assert found["clips"] == 3 and sum(found["rejects"].values()) == 2
    assert found["rejects"]["fewer than 17 frames"] == 1
    assert found["rejected"]["fake/clip02/0"] == "fewer than 17 frames"
    assert not any("clip01" in reason for reason in found["rejects"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "index.jsonl: no such file"),
        ("", "index.jsonl: lists no clips"),
        ('{"id": "a"', "index.jsonl:1: expected a JSON object with an id"),
        ('{"name": "a"}', "index.jsonl:1: expected a JSON object with an id"),
        ('{"id": "a"}', "a.mp4: no such file"),
    ],
)
def test_bad_index_is_one_line_that_names_it(
    tmp_path: pathlib.Path, lines: str | None, message: str
) -> None:
    if lines is not None:
        (tmp_path / "index.jsonl").write_text(lines)
    with pytest.raises(UsageError, match=message):
        run.build(config(tmp_path), tmp_path / "data")


def test_recorded_clip_without_annotator_is_said_so() -> None:
    with pytest.raises(UsageError, match="only drawn clips can be annotated"):
        observe.observe(None, 17, 23.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["pixels", "--clips={0}", "--out={0}/data"], "index.jsonl: no such file"),
        (["pixels", "--clips={0}", "--out={0}/data", "--mouth=1"], "--mouth=1; --help"),
        (["pixels", "--clips={0}", "--out={0}/data", "--frames=16"], "frames: 16 is not"),
        (["pixels", "--out={0}/data"], "required: --clips"),
        (["pixels", "--clips={0}", "--out={0}/data", "--omega=range"], "--omega=range; --help"),
        (["records", "--clips={0}", "--out={0}/data", "--omega=mean"], "invalid choice: 'mean'"),
        (["records", "--clips={0}", "--out={0}/data", "--lips_count"], "index.jsonl: no such file"),
        (["pictures"], "invalid choice: 'pictures'"),
    ],
)
def test_command_line_refuses_in_one_line(
    tmp_path: pathlib.Path, flags: list[str], message: str
) -> None:
    command = [sys.executable, "-m", "data_pipeline.build", *flags]
    done = subprocess.run(
        [word.format(tmp_path) for word in command], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not any(tmp_path.iterdir())


def test_command_line_builds(
    clips: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"pixels --clips={clips} --out={tmp_path}/data --frames=17 --crops=2 --workers=1"
    __main__.main(flags.split())
    assert capsys.readouterr().out.endswith("data: 5 clips, 0.00 h, 0 left out\n")
    assert len(RecordSource(tmp_path / "data", "pixels")[0]["faces"]) == 2
