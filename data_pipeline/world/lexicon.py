"""Sentences to say: a small grammar, rich in m, b, p and in open vowels.

In: a seed. Out: one English sentence. The one idea: a text belongs to the held-out split by its
hash alone, so no list has to be kept and no sentence can be on both sides.

Tests: tests/data_pipeline/world/speech_test.py.
"""

import hashlib
import random

_WHO = (
    "my mother", "papa", "the baker", "Barbara", "Bob", "a young man", "Emma", "Tom", "Pam",
    "the farmer", "our captain", "Amber", "Abraham", "the painter", "my best buddy", "Molly",
    "the piper", "Maria", "the mayor", "Peter", "somebody", "our band", "the barman", "Ben",
)  # fmt: skip
_DID = (
    "bought", "carved", "painted", "imagined", "brought back", "remembered", "compared",
    "put away", "borrowed", "wrapped up", "embraced", "spotted", "polished", "dropped",
    "bumped into", "mapped out", "talked about", "laughed about", "mopped up", "sampled",
)  # fmt: skip
_HOW = (
    "big", "purple", "marble", "broad", "warm", "empty", "charming", "problematic", "proper",
    "bamboo", "bumpy", "amber", "plump", "marvelous", "black", "improbable", "pale", "happy",
    "public", "modern", "small", "copper", "bubbly", "impossible", "soft", "far off",
)  # fmt: skip
_WHAT = (
    "umbrella", "map of the park", "apple pie", "bottle", "lamp", "boat", "piano", "drum",
    "mop", "barn", "banana", "apartment", "camera", "pumpkin", "harbor", "hammock", "poppy",
    "problem", "mailbox", "bamboo hat", "tomato soup", "computer", "palm tree", "opera",
    "hamburger", "balcony", "armchair", "llama", "plum jam", "accordion",
)  # fmt: skip
_WHERE = (
    "in the garden", "by the pond", "at the farm", "on the bus", "in Panama", "by the lamp",
    "above the shop", "at the market", "in the mountains", "behind the bar", "on the map",
    "under the palm trees", "near the opera", "at the beach", "beside the bumpy path",
)  # fmt: skip
_WHEN = (
    "in May", "before breakfast", "at half past ten", "one warm autumn day", "all summer long",
    "on Monday", "in September", "after the ballet", "most of the time", "last March",
)  # fmt: skip
_SHAPES = (
    "{Who} {did} a {how} {what} {where}.",
    "{When}, {who} {did} a {how} {what}.",
    "Maybe {who} {did} the {what}, but {who2} {did2} the {how} {what2}.",
    "{Who} and {who2} {did} a {how} {what} {when}.",
    "Imagine a {how} {what} {where}, and a {how2} {what2} above it.",
    "People say {who} {did} a {what} {where} {when}.",
    "Mama, {who} {did} my {how} {what} {where}!",
    "Perhaps a {what} may become a {how} {what2} {when}.",
    "Ah, the {how} {what}! {Who} {did} it {when}.",
)
_HELD_OUT_SHARE = 4  # one text in four


def sentence(seed: int) -> str:
    """One sentence; the same seed always gives the same one."""
    draw = random.Random(seed)
    lists = {"who": _WHO, "did": _DID, "how": _HOW, "what": _WHAT, "where": _WHERE, "when": _WHEN}
    words = {name: draw.choice(options) for name, options in lists.items()}
    words |= {f"{name}2": draw.choice(options) for name, options in lists.items()}
    for name in ("who", "when"):
        words[name.capitalize()] = words[name][0].upper() + words[name][1:]
    text = draw.choice(_SHAPES).format(**words)
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
    return text


def is_held_out(text: str) -> bool:
    """Whether a text belongs to the held-out split (by its hash, one in four)."""
    return hashlib.sha256(text.encode()).digest()[0] % _HELD_OUT_SHARE == 0
