import dataclasses

import numpy as np
import pytest

from data_pipeline.world import scene

FACE_WORDS = (
    "hair", "bald", "beard", "eye", "skin", "glasses", "freckle", "moustache", "lips", "nose",
    "man ", "woman", "young", "old ", "face",
)  # fmt: skip


def test_captions_name_the_scene_and_never_the_face() -> None:
    for number in range(200):
        drawn = scene.draw_scene(np.random.default_rng(number))
        text = drawn.caption.lower()
        assert drawn.clothes in text and drawn.clothes_color in text and drawn.object in text
        assert not any(word in text for word in FACE_WORDS), text
        assert " a o" not in text and "  " not in text


def test_half_of_the_clips_start_without_a_face() -> None:
    starts = [scene.draw_scene(np.random.default_rng(n)).start for n in range(600)]
    assert 0.44 < np.mean([start == "open" for start in starts]) < 0.56
    assert 0.19 < np.mean([start == "covered" for start in starts]) < 0.31


def test_a_wanted_start_is_kept() -> None:
    assert scene.draw_scene(np.random.default_rng(1), "covered").start == "covered"


@pytest.mark.parametrize("place", scene.PLACES)
def test_backdrops_fill_the_picture_and_its_margin(place: str) -> None:
    drawn = dataclasses.replace(scene.draw_scene(np.random.default_rng(0)), place=place)
    picture = scene.backdrop(drawn)
    assert picture.shape == (288, 288, 3) and picture.dtype == np.uint8
    assert picture.min(axis=(0, 1)).max() < picture.max(axis=(0, 1)).min()
    np.testing.assert_array_equal(picture, scene.backdrop(drawn))
