import cv2
import numpy as np

from data_pipeline.world import people, source


def test_a_seed_is_a_person() -> None:
    assert people.Person.from_seed(7) == people.Person.from_seed(7)
    assert people.Person.from_seed(7) != people.Person.from_seed(8)


def test_held_out_people_are_others() -> None:
    train, held_out = people.indices("train"), people.indices("heldout")
    assert len(train) == 1600 and len(held_out) == 24 and not set(train) & set(held_out)
    looks = {people.person(index) for index in (*train, *held_out)}
    assert len(looks) == 1624


def test_mouths_are_wide_enough_to_be_read_at_64_pixels() -> None:
    for index in (*people.indices("train"), *people.indices("heldout")):
        assert 2 * people.person(index).mouth_half / 4 >= 12


def face(index: int, background: int) -> np.ndarray:
    picture = source.render_portrait(people.person(index), background)
    small = cv2.resize(picture, (64, 64), interpolation=cv2.INTER_AREA)
    return small[14:48, 18:46].astype(np.float32).ravel()


def test_twenty_held_out_faces_are_told_apart_in_other_clothes_and_places() -> None:
    chosen = list(people.indices("heldout"))[:20]
    known = np.stack([face(index, 0) for index in chosen])
    right = 0
    for row, index in enumerate(chosen):
        distance = np.abs(known - face(index, 1 + row)).mean(axis=1)
        right += int(distance.argmin() == row)
    assert right == 20
