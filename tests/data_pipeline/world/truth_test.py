from pathlib import Path

import numpy as np
import pytest

from data_pipeline import schema
from data_pipeline.annotate.truth import annotate, frame_labels
from data_pipeline.world import phonemes, source, truth, write
from ft_jax.errors import UsageError

FRAMES = 17


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    (out / "clips").mkdir()
    for number in range(4):
        write.write_clip(out, source.clip("heldout", 1, number, FRAMES))
    return out


def files(folder: Path) -> list[Path]:
    return sorted((folder / "clips").glob("*.truth.npz"))


def test_annotation_speaks_in_fractions_of_the_picture(folder: Path) -> None:
    for path in files(folder):
        seen = annotate(path, FRAMES, 23.0)
        shown = seen.visible > 0.5
        assert shown[FRAMES // 2 :].all()
        assert seen.landmarks.shape == (FRAMES, 478, 2) and seen.joints.shape == (FRAMES, 33, 3)
        assert np.nanmin(seen.landmarks) > 0 and np.nanmax(seen.landmarks) < 1
        assert np.isnan(seen.landmarks[~shown]).all() and np.isnan(seen.face_box[~shown]).all()
        left, top, right, bottom = seen.face_box[shown].T
        lips = seen.landmarks[shown][:, list(seen.outer_lip)]
        assert (left < lips[..., 0].min(1)).all() and (right > lips[..., 0].max(1)).all()
        assert (top < lips[..., 1].min(1)).all() and (bottom > lips[..., 1].max(1)).all()
        assert seen.annotator.startswith("world-truth")


def test_measures_agree_with_the_landmarks(folder: Path) -> None:
    columns = {name: i for i, name in enumerate(schema.MEASURES)}
    for path in files(folder):
        seen = annotate(path, FRAMES, 23.0)
        shown = seen.visible > 0.5
        points = seen.landmarks[shown]
        inner = np.linalg.norm(points[:, 14] - points[:, 13], axis=-1)
        measured = seen.measures[shown][:, columns["lip_opening"]]
        if inner.std() > 0.005:
            ratio = inner / np.maximum(measured, 1e-6)
            assert np.ptp(ratio[measured > 0.01]) < 1e-3
            # a head is 56-63 % of the picture high
            assert 0.5 < ratio[measured > 0.01].mean() < 0.7
        assert (inner[measured == 0] < 1e-4).all()
        assert np.isfinite(seen.measures).all()


def test_lip_opening_is_known_while_the_face_is_hidden(folder: Path) -> None:
    hidden = [annotate(path, FRAMES, 23.0) for path in files(folder)]
    assert any((seen.visible < 0.5).any() for seen in hidden)
    for seen in hidden:
        assert np.isfinite(seen.measures[seen.visible < 0.5]).all()


def test_phonemes_are_given_for_every_token_of_the_speech_encoder(folder: Path) -> None:
    samples = int(FRAMES / 23 * 16_000 + 1e-6)
    for path in files(folder):
        seen = annotate(path, FRAMES, 23.0)
        assert len(seen.phonemes) == (samples - 400) // 320 + 1
        assert 0 <= seen.phonemes.min() and seen.phonemes.max() < len(phonemes.NAMES)
        assert (seen.phonemes != phonemes.SILENCE).mean() > 0.4


def test_tokens_take_the_phoneme_at_their_centre() -> None:
    times = np.array([[-0.1, 0.030], [0.030, 0.050], [0.050, 0.070]])
    found = frame_labels(np.array([4, 7, 9], np.int16), times, 5)
    assert found.tolist() == [4, 7, 9, 0, 0]  # centres at 12.5, 32.5, 52.5, 72.5 ms


def test_lists_of_mesh_points_do_not_overlap() -> None:
    lips = {*truth.OUTER_LIPS, *truth.INNER_LIPS}
    assert len(lips) == 40
    assert not lips & set(truth.JAW)


def test_broken_and_short_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        annotate(tmp_path / "none.truth.npz", FRAMES, 23.0)
    broken = tmp_path / "broken.truth.npz"
    broken.write_bytes(files(folder)[0].read_bytes()[:1000])
    with pytest.raises(UsageError, match=r"broken\.truth\.npz"):
        annotate(broken, FRAMES, 23.0)
    with pytest.raises(UsageError, match="expected at least 33"):
        annotate(files(folder)[0], 33, 23.0)
