import pytest

from data_pipeline.world import phonemes


def test_only_silence_and_bilabials_close_the_lips() -> None:
    closed = {
        name
        for name, targets in zip(phonemes.NAMES, phonemes.TARGETS, strict=True)
        if all(opening == 0 for opening, _ in targets)
    }
    assert closed == {"sil", "p", "b", "m"}
    assert {phonemes.NAMES[label] for label in phonemes.BILABIAL} == {"p", "b", "m"}


def test_class_numbers_are_those_of_written_records() -> None:
    # Records hold these numbers: the list may grow at its end and nowhere else.
    known = (
        "sil p b m f v th dh t d n l s z sh zh ch jh k g ng hh r w y "
        "aa ae ah ao aw ax ay eh er ey ih iy ow oy uh uw"
    ).split()
    assert list(phonemes.NAMES[: len(known)]) == known


@pytest.mark.parametrize(
    ("mnemonic", "names", "stress"),
    [("'A:", ["aa"], 2), (",eI", ["ey"], 1), ("@L", ["ax", "l"], 0), ("_:", ["sil"], 0)],
)
def test_synthesiser_names_give_class_and_stress(
    mnemonic: str, names: list[str], stress: int
) -> None:
    classes, found = phonemes.from_espeak(mnemonic)
    assert [phonemes.NAMES[label] for label in classes] == names
    assert found == stress


def test_open_vowels_open_wider_than_close_ones() -> None:
    opening = {name: phonemes.TARGETS[i][0][0] for name, i in phonemes.INDEX.items()}
    assert opening["aa"] > opening["eh"] > opening["iy"] > opening["m"]
