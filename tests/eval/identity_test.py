import numpy as np

from ft_jax.eval.identity import NOBODY, Encoder, clip_embedding, last_third, nearest
from ft_jax.eval.instrument import Measured
from ft_jax.media.face_crop import face_crop
from ft_jax.models import face


def test_noisy_views_of_a_face_find_their_reference():
    rng = np.random.default_rng(0)
    references = rng.normal(size=(20, 64))
    frames = references[:, None] + 0.8 * rng.normal(size=(20, 11, 64))
    clips = np.stack([clip_embedding(f) for f in frames])
    np.testing.assert_array_equal(nearest(clips, references), np.arange(20))


def test_length_of_an_embedding_does_not_decide():
    references = np.array([[1.0, 0.0], [30.0, 40.0]])
    assert nearest(np.array([[5.0, 0.1]]), references)[0] == 0


def test_frames_without_a_face_are_left_out_and_clips_without_one_are_nobody():
    frames = np.array([[1.0, 0.0], [np.nan, np.nan]])
    np.testing.assert_allclose(clip_embedding(frames), [1, 0])
    nothing = clip_embedding(frames[1:])
    assert nearest(nothing[None], np.eye(2))[0] == NOBODY


def test_last_third_of_short_and_long_clips():
    assert last_third(33) == slice(22, 33)
    assert last_third(2) == slice(1, 2)


def test_faces_are_cut_out_where_they_were_measured(monkeypatch):
    def embed(params, cfg, crops):
        return crops.reshape(len(crops), -1)[:, : cfg.width]

    monkeypatch.setattr("ft_jax.eval.identity._embed", embed)
    cfg = face.Config(pixels=16, width=16 * 16 * 3)
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    boxes = np.array([[0.2, 0.2, 0.7, 0.8], [np.nan] * 4, [0.0, 0.1, 0.5, 0.6]])
    measured = Measured({"head_tilt": np.array([0.3, np.nan, 0.0])}, boxes, np.ones(3))
    found = Encoder(cfg, {}).embed(frames, measured)
    assert np.isnan(found[1]).all()
    for index, tilt in ((0, 0.3), (2, 0.0)):
        left, top, right, bottom = (float(x) for x in boxes[index] * 32)
        crop = face_crop(frames[index], (left, top, right, bottom), 16, tilt)
        np.testing.assert_array_equal(found[index], crop.reshape(-1))
