import dataclasses
import functools
import json
import pathlib
import typing
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import schema
from data_pipeline.annotate import latents
from data_pipeline.build import records as records_job
from data_pipeline.build import run
from data_pipeline.build.clips import read_index
from data_pipeline.build.config import BuildConfig, LipRegion
from data_pipeline.grain.loader import LoaderConfig, batches
from data_pipeline.grain.source import RecordSource
from ft_jax.checkpoints import bundle
from ft_jax.checkpoints import weights as imported
from ft_jax.checkpoints.tree import fingerprint, flatten
from ft_jax.config import build, to_dict
from ft_jax.errors import UsageError
from ft_jax.lazy import cast
from ft_jax.media import video
from ft_jax.models import clip, dit, face, fantasy, lip_sync, syncnet, text, vae, wav2vec2
from ft_jax.models.system import Sampling, System
from tests.data_pipeline.build.conftest import patched_annotator

FRAMES, FPS, SIDE = 17, 23.0, 16
REGIONS = typing.get_args(LipRegion)


def system() -> System:
    network = dit.Config(
        width=12, layers=1, heads=1, mlp_width=8, latent_channels=16, patch=(1, 2, 2),
        frequency_width=8, text_width=8, text_tokens=24, image_width=16,
    )  # fmt: skip
    return System(
        denoiser=fantasy.Config(dit=network, audio=None, identity=None, motion=None),
        codec=vae.Config(
            width=4, multipliers=(1, 1, 2, 2), blocks=1, mean=(0.1,) * 16, std=(0.5,) * 16
        ),
        speech=wav2vec2.Config(
            channels=8, width=16, layers=1, heads=2, mlp_width=16, position_kernel=8,
            position_groups=2, phonemes=5,
        ),
        text=text.Config(
            tokenizer="bytes", rows=384, width=8, layers=1, heads=2, head_width=4, mlp_width=8
        ),
        image=clip.Config(pixels=16, patch=8, width=16, layers=2, heads=2, mlp_width=16),
        face=face.Config(
            pixels=32, widths=(8, 8, 8, 8), blocks=(1, 1, 1, 1), width=6, norm="group"
        ),
        landmarks=None, frames=FRAMES, fps=FPS, height=SIDE, width=SIDE,
        sampling=Sampling(5.0, 5.0, 4.5),
    )  # fmt: skip


def parts(seed: int) -> dict[str, dict]:
    """Random weights of the right shapes; nothing is compiled for them."""
    models = {"codec": vae, "speech": wav2vec2, "text": text, "image": clip, "face": face}
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        spread = 1 / np.sqrt(max(leaf.shape[0], 1)) if len(leaf.shape) > 1 else 0.1
        centre = 0 if len(leaf.shape) > 1 else 0.5
        return rng.normal(centre, spread, leaf.shape).astype(np.float32)

    abstract = {
        name: jax.eval_shape(
            functools.partial(model.init, cfg=getattr(system(), name)), jax.random.key(0)
        )
        for name, model in models.items()
    }
    return jax.tree.map(draw, abstract)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    bundle.save(path, to_dict(system()), parts(0))
    return path


@pytest.fixture(scope="module")
def data(
    clips: pathlib.Path, weights: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("records") / "data"
    with patched_annotator():
        run.build(config(clips, weights), folder)
    return folder


def config(clips: pathlib.Path, bundle_path: pathlib.Path, **changes: object) -> BuildConfig:
    settings = {"kind": "records", "clips": str(clips), "weights": str(bundle_path), "shards": 2}
    settings |= {"frames": FRAMES, "height": SIDE, "width": SIDE}
    return build(BuildConfig, settings | changes)


def records(folder: pathlib.Path) -> dict[str, schema.Record]:
    return {record["id"]: record for record in RecordSource(folder, "records")}


def test_latents_are_the_codec_s_of_the_clip_and_of_its_first_frame(
    data: pathlib.Path, clips: pathlib.Path, weights: pathlib.Path
) -> None:
    found = records(data)["fake/clip03/0"]
    seen = video.read(clips / "clips" / "clip03.mp4").frames
    small = seen.reshape(FRAMES, SIDE, 8, SIDE, 8, 3).mean((2, 4))
    codec = bundle.load(weights)[1]["codec"]
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), codec)
    encode = jax.jit(functools.partial(vae.encode, params, system().codec))
    clip_pixels = jnp.asarray(np.rint(small) / 127.5 - 1, jnp.float32)[None]
    still = clip_pixels * (jnp.arange(FRAMES) == 0)[None, :, None, None, None]
    both = np.asarray(encode(jnp.concatenate([clip_pixels, still])))
    for name, wanted in zip(("video_latents", "condition_latents"), both, strict=True):
        assert found[name].shape == (5, 2, 2, 16)
        np.testing.assert_allclose(found[name].astype(np.float32), wanted, atol=0.03, rtol=0.01)
    first = found["video_latents"][0].astype(np.float32)
    assert np.array_equal(first, found["condition_latents"][0].astype(np.float32))
    assert not np.allclose(
        found["video_latents"][1:].astype(np.float32),
        found["condition_latents"][1:].astype(np.float32),
        atol=0.01,
    )


def test_other_fields_have_the_cut_s_true_lengths(data: pathlib.Path) -> None:
    for name, found in records(data).items():
        samples = int(FRAMES / FPS * 16000)
        assert found["audio"].shape == (samples,)
        assert found["audio_features"].shape == ((samples - 400) // 320 + 1, 16)
        assert found["text_tokens"].shape == (len(f"number {int(name[9:11])}") + 1, 8)
        assert found["text_tokens"].astype(np.float32).any(-1).all()
        assert found["image_tokens"].shape == (5, 16)
        assert np.linalg.norm(found["identity"]) == pytest.approx(1, abs=1e-5)
        assert found["lip_mask"].shape == found["face_mask"].shape == (5, 2, 2)
        assert found["lip_mask"].any() and (found["face_mask"] >= found["lip_mask"]).all()


def test_identity_comes_from_another_clip_of_the_person(data: pathlib.Path) -> None:
    origins = {
        name: json.loads(found["provenance"])["identity"]["reference"]
        for name, found in records(data).items()
    }
    assert origins == {
        "fake/clip00/0": "fake/clip03/0",
        "fake/clip03/0": "fake/clip00/0",
        "fake/clip01/0": "fake/clip04/0",
        "fake/clip04/0": "fake/clip01/0",
        "fake/clip02/0": "fake/clip02/0",  # the only clip of its person
    }


def test_what_the_paper_leaves_open_can_be_built_otherwise(
    clips: pathlib.Path, weights: pathlib.Path
) -> None:
    index = read_index(clips)

    def annotated(number: int = 4, **changes: object) -> schema.Record:
        job = records_job.RecordsJob.of(config(clips, weights, **changes), index)
        return job.annotate(index[number]).record

    with patched_annotator():
        usual = annotated()
        area = {region: annotated(lip_region=region)["lip_mask"] for region in REGIONS}
        assert annotated(masks="trilinear")["face_mask"].tobytes() != usual["face_mask"].tobytes()
        raw = [usual, annotated(lips_count=True), annotated(head_counts=True)]
        with pytest.raises(UsageError, match="no uncovered face in the first frame"):
            annotated(reference="first")  # the fake annotator hides it there
    np.testing.assert_array_equal(area["outer"], usual["lip_mask"])
    sums = [int(area[region].sum()) for region in ("inner", "outer", "lower_face")]
    assert 0 < sums[0] < sums[1] < sums[2] < int(usual["face_mask"].sum())
    assert len({each["expression_raw"] for each in raw}) == 3


def test_ranks_follow_the_raw_intensities(data: pathlib.Path) -> None:
    found = sorted(records(data).items())
    for raw, ranked in (("expression_raw", "expression"), ("body_raw", "body")):
        values = [record[raw] for _, record in found]
        assert values == sorted(values)  # the fake clips move more and more
        np.testing.assert_allclose(
            [record[ranked] for _, record in found], [0.1, 0.3, 0.5, 0.7, 0.9], rtol=1e-6
        )
    tables = json.loads((data / "statistics.json").read_text())["rank_tables"]
    np.testing.assert_allclose(tables["body"], [record["body_raw"] for _, record in found])


def test_provenance_names_every_measured_or_encoded_field(
    data: pathlib.Path, weights: pathlib.Path
) -> None:
    hashes = latents.Encoders(str(weights)).hashes
    assert json.loads((data / "metadata.json").read_text())["encoders"] == hashes
    for found in records(data).values():
        told = json.loads(found["provenance"])
        assert told["landmarks"] == "fake 1"
        assert "lip-audio correlation" in told["sync_confidence"]
        assert told["video_latents"]["weights"] == hashes["codec"]


SYNC = syncnet.Config(audio=(4,) * 6, lips=(4,) * 6, hidden=6, width=5)


@pytest.fixture(scope="module")
def synced(weights: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The same weights, with SyncNet."""
    rng = np.random.default_rng(3)
    shapes = jax.eval_shape(functools.partial(syncnet.init, cfg=SYNC), jax.random.key(0))
    drawn = jax.tree.map(lambda leaf: 0.1 + 0.1 * rng.random(leaf.shape, np.float32), shapes)
    path = tmp_path_factory.mktemp("synced") / "tiny.safetensors"
    bundle.save(path, to_dict(dataclasses.replace(system(), sync=SYNC)), parts(0) | {"sync": drawn})
    return path


def test_where_the_weights_have_syncnet_it_says_how_lips_and_sound_fit(
    clips: pathlib.Path, data: pathlib.Path, synced: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run.build(config(clips, synced), tmp_path / "data")
    found, usual = records(tmp_path / "data"), records(data)
    made = json.loads((tmp_path / "data" / "metadata.json").read_text())
    of_sync = {"sync_confidence", "sync_offset", "provenance"}
    for name, record in found.items():
        told = json.loads(record["provenance"])["sync_confidence"]
        assert told == {"part": "sync", "weights": made["sync"]}
        for field in set(record) - of_sync:
            np.testing.assert_array_equal(record[field], usual[name][field], err_msg=field)
    # The face is hidden in the first three frames; frame 5 is shown twice at 25 a second.
    path = clips / "clips" / "clip03.mp4"
    seen = video.read(path).frames[[3, 4, 5, 5, *range(6, 17)], 35:114, 24:103]
    crops = np.stack([cv2.resize(frame, (224, 224)) for frame in seen])
    audio = found["fake/clip03/0"]["audio"][3 * 640 :]
    expected = lip_sync.measure(bundle.load(synced)[1]["sync"], SYNC, crops, audio)
    assert expected is not None and expected.confidence > 0
    record = found["fake/clip03/0"]
    assert record["sync_confidence"] == pytest.approx(expected.confidence, rel=1e-5)
    assert record["sync_offset"] == round(expected.offset * 23 / 25)
    assert record["sync_confidence"] != usual["fake/clip03/0"]["sync_confidence"]


def test_encoders_do_not_mix_clips_and_survive_a_restart(
    clips: pathlib.Path,
    weights: pathlib.Path,
    data: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encode, calls = run.schema.encode, []

    def interrupted(*arguments: Any) -> schema.Record:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return encode(*arguments)

    monkeypatch.setattr(run, "CHUNK", 2)
    with monkeypatch.context() as patch:
        patch.setattr("data_pipeline.build.records.schema.encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.build(config(clips, weights), tmp_path / "data")
    run.build(config(clips, weights), tmp_path / "data")
    for name in ("statistics.json", *(path.name for path in data.glob("*.array_record*"))):
        assert (tmp_path / "data" / name).read_bytes() == (data / name).read_bytes(), name


def test_other_weights_are_refused_by_the_loader(
    data: pathlib.Path, weights: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = parts(0) | {"speech": parts(1)["speech"]}
    bundle.save(tmp_path / "other.safetensors", to_dict(system()), other)
    settings = LoaderConfig((str(data),), 2, "records", text_len=24)
    encoders = latents.Encoders(str(weights))
    batch = next(batches(settings, 0, encoders=encoders.hashes, widths=encoders.widths))
    assert batch["text_tokens"].shape == (2, 24, 8)
    changed = latents.Encoders(str(tmp_path / "other.safetensors")).hashes
    with pytest.raises(UsageError, match=r"data: made with speech weights \w+, the model has \w+"):
        batches(settings, 0, encoders=changed)


def test_normalisation_of_the_latents_belongs_to_the_fingerprint() -> None:
    params, codec = parts(0)["codec"], to_dict(system().codec)
    shifted = codec | {"mean": [0.2] * 16}
    assert fingerprint(codec, params) == fingerprint(codec, dict(params))
    assert fingerprint(codec, params) != fingerprint(shifted, params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 13}, r"frames: 13; the system of .*tiny.safetensors has 17"),
        ({"height": 32}, r"height: 32; the system of .* has 16"),
        ({"weights": ""}, r"weights: not given"),
        ({"weights": "none.safetensors"}, r"none.safetensors: no such file"),
    ],
)
def test_bundle_for_other_clips_is_refused(
    clips: pathlib.Path, weights: pathlib.Path, tmp_path: pathlib.Path, changes: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run.build(config(clips, weights, **changes), tmp_path / "data")
    assert not any(tmp_path.iterdir())


def test_encoders_may_be_imported_weights(weights: pathlib.Path, tmp_path: pathlib.Path) -> None:
    system, kept = bundle.load(weights)
    leaves = {path: cast(leaf, leaf.dtype) for path, leaf in flatten(kept).items()}
    imported.save(tmp_path / "imported", system, leaves)
    found = latents.Encoders(str(tmp_path / "imported"))
    assert found.hashes == latents.Encoders(str(weights)).hashes


def test_encoders_go_to_workers_without_their_weights(
    clips: pathlib.Path, weights: pathlib.Path
) -> None:
    import pickle

    job = run.make_job(config(clips, weights), read_index(clips))
    sent = pickle.loads(pickle.dumps(job))
    assert len(pickle.dumps(job)) < 20_000
    assert sent.widths == job.widths and sent.metadata() == job.metadata()
