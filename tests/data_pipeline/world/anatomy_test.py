import numpy as np
import pytest

from data_pipeline.world import anatomy, people
from data_pipeline.world.anatomy import Look

PEOPLE = [people.person(index) for index in range(0, 264, 12)]


def gap(face: anatomy.Face) -> float:
    return float(face.inner_lips[5, 1] - face.inner_lips[15, 1])


@pytest.mark.parametrize("opening", [0.0, 0.25, 1.0])
def test_lips_part_by_exactly_the_opening(opening: float) -> None:
    for person in PEOPLE:
        face = anatomy.face(person, Look(opening=opening))
        expected = opening * anatomy.MAX_GAP * person.mouth_half / 28
        assert gap(face) == pytest.approx(expected, abs=1e-9)
        assert face.gap == pytest.approx(expected)


def test_inner_lips_lie_inside_the_outer_ones() -> None:
    for person in PEOPLE:
        for opening in (0.0, 0.5, 1.0):
            for width in (-1.0, 0.0, 1.0):
                face = anatomy.face(person, Look(opening=opening, width=width))
                outer, inner = face.outer_lips, face.inner_lips
                assert (outer[1:10, 1] > inner[1:10, 1]).all()
                assert (outer[11:, 1] < inner[11:, 1]).all()
                assert outer[0, 0] < inner[0, 0] < inner[10, 0] < outer[10, 0]


def test_expression_leaves_the_lips_alone() -> None:
    for person in PEOPLE:
        calm = anatomy.face(person, Look(opening=0.4))
        lively = anatomy.face(person, Look(opening=0.4, brow=1, lid=0.2, cheek=1, gaze=2))
        np.testing.assert_array_equal(calm.outer_lips, lively.outer_lips)
        assert np.abs(calm.brows[0] - lively.brows[0]).max() > 4


def test_closed_lids_leave_no_eye() -> None:
    for person in PEOPLE:
        face = anatomy.face(person, Look(lid=0.0))
        assert max((eye.lower - eye.upper)[:, 1].max() for eye in face.eyes) < 2.0


def test_faces_are_mirrored_at_rest() -> None:
    for person in PEOPLE:
        left, right = anatomy.face(person, Look()).eyes
        np.testing.assert_allclose(left.upper[::-1] * [-1, 1], right.upper, atol=1e-9)
