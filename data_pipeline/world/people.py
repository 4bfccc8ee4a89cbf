"""People: who somebody is, as a function of one number.

In: a seed. Out: a `Person`: proportions, colours and styles of face and hair. The one idea:
identity lies in the face, hair and skin alone; clothing, place and gesture are drawn per clip
(scene.py), so neither the caption nor a clip of the back of a head tells who it is.

1600 people are for training, 24 are held out; a person's index makes the person. Of 240 people a
model learns the faces by heart and draws no others well (docs/experiments.md).
Lengths are pixels at 256; the head's centre is the origin, y points down.
Tests: tests/data_pipeline/world/people_test.py.
"""

import dataclasses

import numpy as np

TRAIN_PEOPLE = 1600
HELD_OUT = range(240, 264)  # indices

Color = tuple[int, int, int]  # RGB

SKINS: tuple[Color, ...] = (
    (255, 224, 199), (250, 209, 178), (241, 194, 158), (232, 184, 140), (222, 168, 122),
    (205, 148, 104), (187, 128, 86), (164, 107, 70), (140, 88, 56), (116, 72, 47), (94, 58, 40),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (32, 26, 30), (58, 38, 30), (92, 58, 36), (132, 84, 46), (176, 118, 62), (222, 176, 98),
    (240, 214, 150), (178, 74, 40), (214, 104, 52), (150, 150, 156), (226, 224, 226),
    (52, 128, 138), (196, 88, 138), (110, 84, 164),
)  # fmt: skip
_HAIR_ODDS = (5, 5, 5, 4, 4, 4, 3, 3, 3, 3, 3, 2, 2, 2)
EYES: tuple[Color, ...] = (
    (70, 44, 30), (106, 66, 36), (62, 112, 170), (82, 140, 96), (110, 120, 130), (140, 106, 50),
)  # fmt: skip
LIPS: tuple[Color, ...] = (
    (196, 92, 88), (178, 66, 74), (214, 120, 112), (158, 74, 66), (202, 60, 84), (150, 52, 82),
)  # fmt: skip
HAIR_STYLES = (
    "bald", "crop", "side", "curls", "bob", "long", "waves", "bun", "spikes", "fringe", "afro",
    "quiff", "tails",
)  # fmt: skip
_BEARDED = ("stubble", "full", "goatee", "moustache")
GLASSES = ("none", "round", "square", "half")


@dataclasses.dataclass(frozen=True)
class Person:
    """What stays the same about somebody from clip to clip."""

    seed: int
    skin: Color
    hair: Color
    hair_style: str
    hair_volume: float  # 0.8-1.25
    hair_side: float  # -1 or 1: where the parting is
    head_width: float  # half, at the cheekbones
    head_height: float  # half
    jaw: float  # jaw corner / cheekbone
    chin: float  # chin / cheekbone
    ear: float  # size factor
    eye: Color
    eye_size: float
    eye_gap: float  # from the middle to an eye's centre
    eye_slant: float  # pixels the outer corner lies higher
    eye_y: float
    brow_thick: float
    brow_arch: float
    brow_slant: float
    brow: Color
    nose_width: float
    nose_length: float
    lips: Color
    lip_full: float
    smile: float  # pixels the corners lie higher than the middle
    mouth_half: float  # half width at rest
    mouth_y: float
    cheek_blush: float
    freckles: bool
    mole: float  # 0 none, else where
    glasses: str
    glasses_color: Color
    beard: str
    earrings: bool
    sway_rate: float  # Hz
    nod_delay: float  # seconds after a stressed vowel
    shoulder_delay: float

    @classmethod
    def from_seed(cls, seed: int) -> "Person":
        """Draw a person."""
        draw = np.random.default_rng([seed, 7919])
        skin_row = int(draw.integers(len(SKINS)))
        odds = np.array(_HAIR_ODDS, float)
        if skin_row > 6:  # deep skin: natural hair is dark, grey or dyed
            odds[2:9] *= 0.25
        hair = HAIRS[int(draw.choice(len(HAIRS), p=odds / odds.sum()))]
        style = str(draw.choice(HAIR_STYLES))
        beard = "none"
        if style in ("bald", "crop", "side", "curls", "spikes", "afro", "quiff"):
            beard = str(draw.choice(_BEARDED)) if draw.random() < 0.5 else "none"
        brow = (int(0.62 * hair[0] + 10), int(0.62 * hair[1] + 10), int(0.62 * hair[2] + 10))
        uniform = draw.uniform
        return cls(
            seed=seed,
            skin=_near(SKINS[skin_row], draw, 5),
            hair=_near(hair, draw, 8),
            hair_style=style,
            hair_volume=uniform(0.85, 1.2),
            hair_side=float(draw.choice([-1.0, 1.0])),
            head_width=uniform(53, 64),
            head_height=uniform(72, 80),
            jaw=uniform(0.70, 0.93),
            chin=uniform(0.28, 0.52),
            ear=uniform(0.85, 1.2),
            eye=EYES[int(draw.integers(len(EYES)))],
            eye_size=uniform(0.82, 1.25),
            eye_gap=uniform(23.0, 28.5),
            eye_slant=uniform(-2.5, 3.5),
            eye_y=uniform(-9, -1),
            brow_thick=uniform(2.6, 7.0),
            brow_arch=uniform(1.0, 7.5),
            brow_slant=uniform(-1.2, 3.6),
            brow=brow,
            nose_width=uniform(8.0, 14.5),
            nose_length=uniform(17, 27),
            lips=LIPS[int(draw.integers(len(LIPS)))],
            lip_full=uniform(0.75, 1.35),
            smile=uniform(2.0, 5.5),
            mouth_half=uniform(26.0, 30.5),
            mouth_y=uniform(41, 46),
            cheek_blush=uniform(0.08, 0.45),
            freckles=bool(draw.random() < 0.2),
            mole=float(draw.choice([0, 0, 0, 0, -1, 1])),
            glasses=str(draw.choice(GLASSES, p=[0.62, 0.15, 0.13, 0.10])),
            glasses_color=((30, 30, 36), (120, 50, 40), (40, 70, 120), (180, 140, 60))[
                int(draw.integers(4))
            ],
            beard=beard,
            earrings=bool(beard == "none" and draw.random() < 0.3),
            sway_rate=uniform(0.45, 0.7),
            nod_delay=uniform(0.32, 0.42),
            shoulder_delay=uniform(0.42, 0.55),
        )


def _near(color: Color, draw: np.random.Generator, spread: int) -> Color:
    moved = np.clip(np.array(color) + draw.integers(-spread, spread + 1, 3), 0, 255)
    return (int(moved[0]), int(moved[1]), int(moved[2]))


def indices(split: str) -> tuple[int, ...]:
    """Person indices of a split, "train" or "heldout"."""
    if split == "train":
        everyone = range(TRAIN_PEOPLE + len(HELD_OUT))
        return tuple(index for index in everyone if index not in HELD_OUT)
    return tuple(HELD_OUT)


def person(index: int) -> Person:
    """The person of an index."""
    return Person.from_seed(1000 + index)
