"""Dimension letters: the glossary every shape annotation and einsum in this project uses.

A shape is written once, in the annotation, with the letters below; a width that belongs to one
branch carries that branch's letter behind ``c`` (``ca`` = channels of the audio features). The test
suite checks the annotations at run time, and ``tests/architecture_test.py`` that no other letter
appears.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

DIMENSIONS: Mapping[str, str] = {
    "b": "batch",
    "f": "video frames (4n + 1)",
    "t": "latent frames (n + 1)",
    "h": "latent rows",
    "w": "latent columns",
    "H": "pixel rows",
    "W": "pixel columns",
    "l": "video tokens, space-major: (h w) t",
    "s": "keys of an attention; text tokens",
    "i": "image tokens",
    "a": "audio tokens (about 50 a second)",
    "p": "audio tokens in the window of one latent frame",
    "e": "identity tokens",
    "d": "model width",
    "n": "attention heads",
    "k": "width of one head",
    "m": "width of the hidden layer of an MLP; measures of a frame",
    "c": "channels",
    "ca": "channels of the audio features",
    "ce": "channels of the identity embedding",
    "ci": "channels of the image tokens",
    "cs": "channels of the text tokens",
    "o": "output channels",
    "r": "LoRA rank",
    "x": "audio samples (16 kHz unless said)",
    "y": "classes",
    "layers": "stacked blocks",
}

Params: TypeAlias = Mapping[str, Any]
"""A nested mapping of arrays, as Linen lays it out: ``.../kernel`` is [inputs, outputs]."""
