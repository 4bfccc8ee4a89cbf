"""From any picture to what is animated: the crop, the face, and who is asked where it is."""

import numpy as np
import pytest

from data_pipeline.world import people, source
from ft_jax.media.face_detection import find_face
from ft_jax.media.image import Framing
from ft_jax.sampling import portrait
from ft_jax.sampling.portrait import NO_FACE, Seen, Sizes, take

SIZES = Sizes(64, 64, 48)


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    """A drawn portrait whose face the detector finds."""
    return next(
        picture
        for index in people.indices("heldout")
        if find_face(picture := source.render_portrait(people.person(index)))
    )


def blind(picture: np.ndarray) -> Seen:
    return Seen((0.0, 0.0, 0.0, 0.0), 0.0, 0.0)


def faceless() -> np.ndarray:
    return np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 300, 3))


def test_a_portrait_as_the_model_knows_them_is_only_made_smaller(drawn: np.ndarray) -> None:
    taken = take(drawn, SIZES, Framing(), None)
    np.testing.assert_allclose(taken.picture, drawn.reshape(64, 4, 64, 4, 3).mean((1, 3)), atol=1)
    assert taken.face is not None and taken.face.shape == (48, 48, 3)
    assert taken.notes == ()


def test_a_picture_of_the_models_size_is_taken_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(take(picture, SIZES, Framing(), None).picture, picture)


def test_a_small_face_in_a_wide_picture_is_brought_near(drawn: np.ndarray) -> None:
    wide = np.full((800, 1400, 3), 200, np.uint8)
    wide[300:556, 900:1156] = drawn
    near = take(wide, SIZES, Framing(), None)
    face = find_face(near.picture)
    assert face is not None
    assert 0.35 < (face.box[3] - face.box[1]) / 64 < 0.65
    assert 0.35 < (face.box[0] + face.box[2]) / 128 < 0.65


@pytest.mark.parametrize("look", [None, blind])
def test_without_a_face_the_picture_is_animated_and_said_so(look: portrait.Look | None) -> None:
    taken = take(faceless(), SIZES, Framing(), look)
    assert taken.picture.shape == (64, 64, 3)
    assert taken.face is None and taken.notes == (NO_FACE,)


def test_the_landmark_network_is_asked_where_the_detector_is_blind() -> None:
    def sees(picture: np.ndarray) -> Seen:
        return Seen((0.25, 0.2, 0.75, 0.9), 0.0, 0.99)

    taken = take(faceless(), SIZES, Framing(), sees)
    assert taken.face is not None and taken.notes == ()


def test_the_landmark_network_is_not_believed_against_the_detector(drawn: np.ndarray) -> None:
    def elsewhere(picture: np.ndarray) -> Seen:
        return Seen((0.0, 0.0, 0.2, 0.2), 1.0, 0.99)

    def same(picture: np.ndarray) -> Seen:
        return Seen((0.26, 0.2, 0.74, 0.75), 0.5, 0.99)

    alone = take(drawn, SIZES, Framing(), None).face
    assert alone is not None
    np.testing.assert_array_equal(take(drawn, SIZES, Framing(), elsewhere).face, alone)
    assert np.abs(take(drawn, SIZES, Framing(), same).face - alone.astype(int)).max() > 20
