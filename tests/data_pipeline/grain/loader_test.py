import itertools
import json
import pathlib
import shutil

import ml_dtypes
import numpy as np
import pytest

from data_pipeline import schema
from data_pipeline.build import dataset
from data_pipeline.grain.loader import Batch, LoaderConfig, batches, shapes
from ft_jax.errors import UsageError

COUNT, FRAMES = 10, 9
PIXEL_WIDTHS = {"H": 8, "W": 8, "face": 6, "m": 2}
RECORD_WIDTHS = {"c": 4, "i": 2, "ci": 3, "cs": 3, "ca": 2, "ce": 5} | {
    "points": 3, "joints": 2, "quality": 5
}  # fmt: skip


def pixels(number: int) -> schema.Record:
    ramp = np.arange(FRAMES)
    return {
        "id": f"a/{number}/0", "schema": 1, "person": "p", "person_index": number % 3,
        "caption": f"clip {number}", "fps": 23.0,
        "frames": np.tile((ramp + 20 * number)[:, None, None, None], (8, 8, 3)).astype(np.uint8),
        "audio": np.full(50, number, np.int16), "phonemes": np.full(4, number, np.int16),
        "faces": np.full((1 + number % 3, 6, 6, 3), number, np.uint8),
        "measures": np.tile(ramp[:, None], 2).astype(np.float32),
        "face_box": np.tile(ramp[:, None], 4).astype(np.float16),
    }  # fmt: skip


def record(number: int) -> schema.Record:
    rng = np.random.default_rng(number)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(ml_dtypes.bfloat16)

    return {
        "id": f"a/{number}/0", "schema": 1, "source": "a", "person": "p", "language": "en",
        "licence": "none", "fps": 23.0, "frames": FRAMES, "height": 16, "width": 16,
        "video_latents": random(3, 2, 2, 4), "condition_latents": random(3, 2, 2, 4),
        "image_tokens": random(2, 3), "text_tokens": random(1 + number % 4, 3), "caption": "c",
        "audio_features": random(5, 2), "audio": np.zeros(30, np.int16),
        "lip_mask": np.zeros((3, 2, 2), np.uint8), "face_mask": np.zeros((3, 2, 2), np.uint8),
        "landmarks": np.zeros((FRAMES, 3, 2), np.float16),
        "joints": np.zeros((FRAMES, 2, 3), np.float16),
        "face_box": np.zeros((FRAMES, 4), np.float16), "identity": np.zeros(5, np.float32),
        "expression_raw": 1.0, "body_raw": 1.0, "expression": number / COUNT, "body": 0.5,
        "sync_confidence": 0.5, "sync_offset": 0, "quality": np.zeros(5, np.float32),
        "provenance": "{}",
    }  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Both kinds of data sets, ten clips each."""
    folder = tmp_path_factory.mktemp("data")
    kinds = ((schema.PIXELS, PIXEL_WIDTHS, pixels), (schema.RECORD, RECORD_WIDTHS, record))
    for table, widths, make in kinds:
        rows = [schema.encode(table, make(number), widths) for number in range(COUNT)]
        metadata = {"kind": table.name, "schema": schema.VERSION, "widths": widths}
        metadata["encoders"] = {"codec": "abc"}
        dataset.write(folder / table.name, table, rows, {"metadata": metadata}, COUNT, 2)
    return folder


def take(data: pathlib.Path, count: int, seed: int = 0, start: int = 0, **settings) -> list[Batch]:
    chosen = {"kind": "pixels", "batch_size": 4, "fields": ("person_index",)} | settings
    config = LoaderConfig(**{"paths": (str(data / chosen["kind"]),)} | chosen)
    return list(itertools.islice(batches(config, seed, start), count))


def ids(found: list[Batch]) -> list[str]:
    return [str(name) for batch in found for name in batch["id"]]


def same(a: Batch, b: Batch) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("threads", [0, 2])
def test_start_batch_equals_skipping(data: pathlib.Path, threads: int) -> None:
    settings = {"fields": ("frames", "faces"), "frames": 5, "faces": 2, "threads": threads}
    whole = take(data, 8, **settings)
    late = take(data, 4, start=4, **settings)
    assert all(same(a, b) for a, b in zip(whole[4:], late, strict=True))
    assert len({batch["frames"].tobytes() for batch in whole}) == 8


def test_every_epoch_has_every_clip_once_in_another_order(data: pathlib.Path) -> None:
    order = ids(take(data, 10))
    epochs = [order[start : start + COUNT] for start in range(0, 40, COUNT)]
    assert all(sorted(epoch) == sorted(f"a/{i}/0" for i in range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert ids(take(data, 10, seed=1)) != order
    assert ids(take(data, 10, cache=False)) == order


def test_hosts_share_one_batch(data: pathlib.Path) -> None:
    whole = take(data, 3, fields=("frames",), frames=5)
    shares = [take(data, 3, fields=("frames",), frames=5, rows=rows) for rows in ((0, 1), (2, 3))]
    for batch, first, second in zip(whole, *shares, strict=True):
        joined = {name: np.concatenate([first[name], second[name]]) for name in batch}
        assert same(batch, joined)


def test_sub_clip_keeps_frames_and_measures_together(data: pathlib.Path) -> None:
    found = take(data, 10, fields=("frames", "measures", "face_box"), frames=5)
    starts = set()
    for batch in found:
        assert batch["frames"].shape == (4, 5, 8, 8, 3) and batch["frames"].dtype == np.uint8
        phase = batch["frames"][:, :, 0, 0, 0] % 20
        np.testing.assert_array_equal(phase, batch["measures"][..., 0])
        np.testing.assert_array_equal(phase, batch["face_box"][..., 3])
        np.testing.assert_array_equal(np.diff(phase), 1)
        starts |= set(phase[:, 0].tolist())
    assert starts == set(range(FRAMES - 5 + 1))


def test_faces_are_drawn_from_the_clips_own(data: pathlib.Path) -> None:
    for batch in take(data, 5, fields=("faces",), faces=2):
        assert batch["faces"].shape == (4, 2, 6, 6, 3)
        numbers = [int(name.split("/")[1]) for name in batch["id"]]
        np.testing.assert_array_equal(batch["faces"][:, :, 0, 0, 0], np.tile(numbers, (2, 1)).T)


def test_batch_has_the_schema_s_names_and_the_stored_values(data: pathlib.Path) -> None:
    for batch in take(data, 3, kind="records", fields=(), text_len=6):
        assert list(batch) == [field.name for field in schema.RECORD.fields]
        assert batch["video_latents"].dtype == ml_dtypes.bfloat16
        for row, name in enumerate(batch["id"]):
            number = int(name.split("/")[1])
            truth = record(number)
            length = 1 + number % 4
            text = batch["text_tokens"][row]
            assert text.shape == (6, 3) and not text[length:].astype(np.float32).any()
            np.testing.assert_array_equal(text[:length], truth["text_tokens"])
            np.testing.assert_array_equal(batch["video_latents"][row], truth["video_latents"])
            assert batch["expression"][row] == np.float32(truth["expression"])


def taller(given: schema.Record, height: int) -> schema.Record:
    """The record of a clip of another height."""
    fields = ("video_latents", "condition_latents", "lip_mask", "face_mask")
    return given | {"height": height} | {n: given[n].repeat(height // 16, 1) for n in fields}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Three data sets of ten clips each: two of one shape, one of another."""
    folder = tmp_path_factory.mktemp("corpora")
    for name, side in (("a", 16), ("b", 32), ("c", 16)):
        made = [taller(record(n), side) | {"id": f"{name}/{n}/0"} for n in range(COUNT)]
        rows = [schema.encode(schema.RECORD, row, RECORD_WIDTHS) for row in made]
        metadata = {"kind": "records", "schema": schema.VERSION, "widths": RECORD_WIDTHS}
        metadata |= {"encoders": {}, "frames": FRAMES, "height": side, "width": 16}
        dataset.write(folder / name, schema.RECORD, rows, {"metadata": metadata}, COUNT, 1)
    return tuple(str(folder / name) for name in "abc")


def mixed(corpora: tuple[str, ...], count: int, start: int = 0, **settings) -> list[Batch]:
    fields = {"kind": "records", "fields": ("video_latents",), "paths": corpora}
    return take(pathlib.Path(), count, start=start, **fields, **settings)


def test_a_batch_has_one_shape_and_every_data_set_its_share(corpora: tuple[str, ...]) -> None:
    found = mixed(corpora, 250, weights=(1, 2, 1))
    sources = [{name[0] for name in batch["id"]} for batch in found]
    assert all(names == {"b"} or names <= {"a", "c"} for names in sources)
    assert any(names == {"a", "c"} for names in sources)
    assert {batch["video_latents"].shape[2] for batch in found} == {2, 4}
    names = [str(name)[0] for batch in found for name in batch["id"]]
    shares = [names.count(name) / len(names) for name in "abc"]
    np.testing.assert_allclose(shares, (0.25, 0.5, 0.25), atol=0.06)
    for name in "abc":  # each in epochs of its own
        own = [text for text in ids(found) if text[0] == name]
        assert len(set(own[:COUNT])) == COUNT and own[:COUNT] != own[COUNT : 2 * COUNT]


def test_mixed_batches_are_the_same_however_they_are_reached(corpora: tuple[str, ...]) -> None:
    whole = mixed(corpora, 12)
    assert all(map(same, whole[7:], mixed(corpora, 5, start=7)))
    shares = [mixed(corpora, 12, rows=rows) for rows in ((0, 1), (2, 3))]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert same(batch, {name: np.concatenate([first[name], second[name]]) for name in batch})


def test_one_batch_of_every_shape_is_known_before(corpora: tuple[str, ...]) -> None:
    config = LoaderConfig(corpora, 4, "records", fields=("video_latents",))
    found = [batch["video_latents"].shape[2] for batch in shapes(config, 0)]
    assert found == [2, 4]


def test_mixtures_that_cannot_be_are_refused(corpora: tuple[str, ...]) -> None:
    for weights in ((1, 1), (1, 1, 0)):
        with pytest.raises(UsageError, match=r"weights: .* expected 3 positive numbers"):
            mixed(corpora, 1, weights=weights)
    with pytest.raises(UsageError, match="expected each data set once"):
        mixed(corpora[:1] * 2, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"seed": -1}, "seed: -1; expected 0 or more"),
        ({"fields": ("mouth",)}, "mouth: not a field of pixels"),
        ({"fields": ("frames",), "frames": 6}, "frames: 6; expected a multiple of 4 plus 1"),
        ({"fields": ("frames",), "frames": 13}, "frames: 13; clip a/./0 has only 9"),
        ({"fields": ("audio",), "frames": 5}, "frames: 5; sub-clips exist for pixels without"),
        ({"fields": ("faces",)}, "faces: clip a/.* a batch needs equal shapes"),
        ({"kind": "records", "fields": ("text_tokens",), "text_len": 2}, "text_len: 2; the prompt"),
    ],
)
def test_impossible_settings_are_named(data: pathlib.Path, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        take(data, 5, **({"threads": 0} | settings))
    assert "\n" not in str(refused.value)


def test_other_model_s_data_is_refused(data: pathlib.Path) -> None:
    config = LoaderConfig((str(data / "records"),), 4, "records", fields=("body",))
    next(batches(config, 0, encoders={"codec": "abc"}, widths={"c": 4}))
    with pytest.raises(UsageError, match=r"made with codec weights abc, the model has abd"):
        batches(config, 0, encoders={"codec": "abd"})
    with pytest.raises(UsageError, match=r"made with speech weights None"):
        batches(config, 0, encoders={"speech": "abc"})
    with pytest.raises(UsageError, match=r"width ce is 5, the model has 64"):
        batches(config, 0, widths={"ce": 64})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "not a data set"),
        (lambda folder: (folder / "metadata.json").write_text("{"), "metadata cannot be read"),
        (lambda folder: (folder / "schema.json").write_text("[]"), "other fields than pixels"),
        (lambda folder: next(folder.glob("*record-00001*")).unlink(), r"record-.*: 0 bytes"),
        (lambda folder: change(folder, schema=0), "schema 0; expected .* schema 1"),
        (lambda folder: change(folder, kind="records"), "other fields than records"),
    ],
)
def test_damaged_data_set_is_one_line(
    data: pathlib.Path, tmp_path: pathlib.Path, damage, message: str
) -> None:
    shutil.copytree(data / "pixels", tmp_path / "pixels")
    damage(tmp_path / "pixels")
    with pytest.raises(UsageError, match=message) as refused:
        take(tmp_path, 1)
    assert "\n" not in str(refused.value)


def test_wrong_kind_is_refused(data: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="holds pixels; expected records"):
        batches(LoaderConfig((str(data / "pixels"),), 4, "records"), 0)


def change(folder: pathlib.Path, **changes: object) -> None:
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
