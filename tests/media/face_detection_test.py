"""The detector of faces, on drawn ones: photographs of people are not ours to ship."""

import numpy as np
import pytest

from data_pipeline.world import people, source
from ft_jax.media import face_detection
from ft_jax.media.face_detection import find_face
from ft_jax.media.image import resize


def test_most_drawn_faces_are_found_where_they_are_at_any_size() -> None:
    found = []
    for index in people.indices("heldout")[:8]:
        portrait = source.render_portrait(people.person(index))
        for side in (64, 400):
            face = find_face(resize(portrait, side, side))
            if face is not None:
                left, top, right, bottom = np.array(face.box) / side
                assert 0.35 < (left + right) / 2 < 0.65 and 0.3 < (top + bottom) / 2 < 0.65
                assert 0.5 <= face.confidence <= 1.0
                found.append(index)
    assert len(found) >= 10


def test_nothing_is_found_where_there_is_no_face() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3))
    assert find_face(ramp) is None
    assert find_face(np.zeros((16, 500, 3), np.uint8)) is None


def test_a_face_off_the_middle_of_a_wide_picture_is_found_there() -> None:
    portrait = next(
        picture
        for index in people.indices("heldout")
        if find_face(picture := source.render_portrait(people.person(index)))
    )
    wide = np.full((256, 700, 3), 200, np.uint8)
    wide[:, 430:686] = portrait
    face = find_face(wide)
    assert face is not None
    assert 480 < (face.box[0] + face.box[2]) / 2 < 640


def test_profiles_are_found_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_detection, "SEARCHES", (("profileface", 240, 4),))
    found = 0
    for index in people.indices("heldout")[:10]:
        portrait = source.render_portrait(people.person(index))
        wide = np.concatenate([portrait, np.full((256, 60, 3), 90, np.uint8)], axis=1)
        one, other = find_face(wide), find_face(np.ascontiguousarray(wide[:, ::-1]))
        if one is not None and other is not None:
            found += 1
            assert abs(one.box[0] - (wide.shape[1] - other.box[2])) < 8
    assert found >= 2
