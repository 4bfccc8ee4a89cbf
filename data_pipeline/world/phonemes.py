"""The closed list of phonemes, and where each one takes the lips.

In: phoneme names of the synthesiser (eSpeak's ASCII mnemonics). Out: class numbers and lip
targets. The one idea: everything that knows about phonemes reads this file; class 0 is silence
and the numbers are part of the record format, so the list only ever grows at its end.

Targets are (opening, width): opening 0 = closed, 1 = as far as a talking mouth opens; width 0 at
rest, +1 spread, -1 rounded. A diphthong has two targets, met one after the other.

Invariants: exactly the bilabials m, b, p have opening 0 besides silence.
Tests: tests/data_pipeline/world/phonemes_test.py.
"""

SILENCE = 0

# class name -> lip targets, in class order
_TABLE: dict[str, tuple[tuple[float, float], ...]] = {
    "sil": ((0.0, 0.0),),
    "p": ((0.0, 0.0),),
    "b": ((0.0, 0.0),),
    "m": ((0.0, 0.0),),
    "f": ((0.10, 0.1),),
    "v": ((0.12, 0.1),),
    "th": ((0.22, 0.1),),
    "dh": ((0.22, 0.1),),
    "t": ((0.24, 0.2),),
    "d": ((0.26, 0.2),),
    "n": ((0.26, 0.2),),
    "l": ((0.34, 0.1),),
    "s": ((0.16, 0.5),),
    "z": ((0.18, 0.5),),
    "sh": ((0.24, -0.5),),
    "zh": ((0.24, -0.5),),
    "ch": ((0.22, -0.4),),
    "jh": ((0.24, -0.4),),
    "k": ((0.32, 0.1),),
    "g": ((0.32, 0.1),),
    "ng": ((0.32, 0.1),),
    "hh": ((0.40, 0.0),),
    "r": ((0.28, -0.5),),
    "w": ((0.14, -1.0),),
    "y": ((0.22, 0.7),),
    "aa": ((1.00, 0.1),),
    "ae": ((0.92, 0.5),),
    "ah": ((0.72, 0.1),),
    "ao": ((0.80, -0.5),),
    "aw": ((0.98, 0.2), (0.42, -0.8)),
    "ax": ((0.45, 0.0),),
    "ay": ((0.98, 0.2), (0.42, 0.7)),
    "eh": ((0.64, 0.4),),
    "er": ((0.46, -0.3),),
    "ey": ((0.60, 0.5), (0.36, 0.7)),
    "ih": ((0.40, 0.5),),
    "iy": ((0.30, 1.0),),
    "ow": ((0.66, -0.6), (0.34, -1.0)),
    "oy": ((0.70, -0.7), (0.40, 0.5)),
    "uh": ((0.40, -0.6),),
    "uw": ((0.26, -1.0),),
}

NAMES: tuple[str, ...] = tuple(_TABLE)
TARGETS: tuple[tuple[tuple[float, float], ...], ...] = tuple(_TABLE.values())
INDEX: dict[str, int] = {name: i for i, name in enumerate(NAMES)}
BILABIAL: frozenset[int] = frozenset(INDEX[name] for name in ("p", "b", "m"))
LABIODENTAL: frozenset[int] = frozenset(INDEX[name] for name in ("f", "v"))
VOWELS: frozenset[int] = frozenset(range(INDEX["aa"], INDEX["uw"] + 1))

# eSpeak mnemonic -> our classes; several classes share the mnemonic's time equally
_ESPEAK: dict[str, str] = {
    "p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "T": "th", "D": "dh",
    "t": "t", "t#": "d", "t2": "t", "d": "d", "d#": "d", "n": "n", "l": "l", "L": "l",
    "s": "s", "z": "z", "z/2": "z", "z#": "z", "S": "sh", "Z": "zh", "tS": "ch", "dZ": "jh",
    "k": "k", "g": "g", "N": "ng", "h": "hh", "r": "r", "r-": "r", "w": "w", "j": "y",
    "?": "sil", ";": "y", "n-": "ax n", "l#": "l",
    "A:": "aa", "A": "aa", "A#": "aa", "0": "aa", "0#": "aa", "A@": "aa r", "aa": "ae",
    "a": "ae", "a2": "ae", "V": "ah", "O": "ao", "O:": "ao", "O2": "ao", "O@": "ao r",
    "o@": "ao r", "o": "ow", "aU": "aw", "aU@": "aw er", "@": "ax", "@2": "ax", "@5": "ax",
    "a#": "ax", "@L": "ax l", "@-": "ax", "aI": "ay", "aI@": "ay ax", "aI3": "ay er",
    "E": "eh", "E2": "eh", "e@": "eh r", "3": "er", "3:": "er", "eI": "ey", "I": "ih",
    "I2": "ih", "I#": "ih", "i@": "ih r", "i@3": "ih r", "i": "iy", "i:": "iy",
    "oU": "ow", "oU#": "ow", "OI": "oy", "U": "uh", "U@": "uh r", "u": "uw", "u:": "uw",
}  # fmt: skip


def from_espeak(mnemonic: str) -> tuple[tuple[int, ...], int]:
    """Translate one eSpeak phoneme event.

    Args:
      mnemonic: the event's name, with its stress mark in front (' primary, , secondary).

    Returns:
      (classes, stress): classes said one after the other; stress 0, 1 (secondary) or 2.

    Raises:
      KeyError: for a mnemonic that is not in the table.
    """
    stress = 2 if mnemonic.startswith("'") else 1 if mnemonic.startswith(",") else 0
    bare = mnemonic.lstrip("',%=")
    if not bare or bare.startswith("_"):
        return (SILENCE,), 0
    return tuple(INDEX[name] for name in _ESPEAK[bare].split()), stress
