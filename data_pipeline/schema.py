"""The two tables of the data sets: every field once, with its type, shape, unit and meaning.

A record in memory is a dict of Python scalars and numpy arrays. On disk every array is its raw
little-endian bytes and every scalar is itself, so that a bf16 latent costs its own size and no
decoding. Shapes are not stored: each letter of a field's `dims` is bound by the data set's widths
(metadata), by the record's own scalars, or, one letter per field, by the number of bytes.

  PIXELS   one clip as it was seen and heard, with measurements; trains the codec and the encoders
  RECORD   one clip as the frozen encoders see it; trains the denoiser

Letters (ft_jax/typing.py): f frames, t latent frames, H W pixels, h w latent cells, x samples,
a audio tokens, s text tokens, i image tokens, m measures, c* channels; the rest is named in full.
Invariants: decode(encode(record)) equals record bit for bit; a field that is missing, unknown, or
of another type or shape is refused with its name, what was expected and what came.
Tests: tests/data_pipeline/schema_test.py.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ft_jax.errors import UsageError

VERSION = 1
TIME_STRIDE = 4  # pixel frames per latent frame after the first
SPACE_STRIDE = 8  # pixels per latent cell, along each side

Record = dict[str, Any]
Widths = Mapping[str, int]

_SCALARS = {"str": str, "int": (int, np.integer), "float": (float, np.floating)}


@dataclasses.dataclass(frozen=True)
class Field:
    """One column of a table.

    Attributes:
        name: key in the record and in the batch.
        dtype: "str", "int", "float" (stored as float32), or the numpy name of an array's type.
        dims: shape letters separated by spaces; "" for scalars.
        unit: unit of the numbers, or "-".
        meaning: what it is, in one line.
    """

    name: str
    dtype: str
    dims: str
    unit: str
    meaning: str

    @property
    def is_array(self) -> bool:
        """Whether the field is stored as raw bytes."""
        return self.dtype not in _SCALARS


@dataclasses.dataclass(frozen=True)
class Table:
    """A named list of fields and the letters that a data set fixes for all of its records."""

    name: str
    widths: tuple[str, ...]
    fields: tuple[Field, ...]

    def __getitem__(self, name: str) -> Field:
        for field in self.fields:
            if field.name == name:
                return field
        raise UsageError(
            f"{name}: not a field of {self.name}; the fields are "
            + ", ".join(field.name for field in self.fields)
        )


MEASURES = (
    "lip_opening", "lip_width", "brow", "lid", "cheek",
    "head_x", "head_y", "head_tilt", "shoulder", "visible",
)  # fmt: skip
QUALITY = ("detection", "sharpness", "brightness", "text_area", "speech_share")

PIXELS = Table("pixels", ("H", "W", "face", "m"), (
    Field("id", "str", "", "-", "source/file/start frame; unique; the same on every run"),
    Field("schema", "int", "", "-", "version of this table"),
    Field("person", "str", "", "-", "who, unique within the source"),
    Field("person_index", "int", "", "-", "number of the person among the data set's, sorted"),
    Field("caption", "str", "", "-", "what is seen and done, in words"),
    Field("fps", "float", "", "1/s", "frame rate"),
    Field("frames", "uint8", "f H W 3", "0-255", "pictures, sRGB, reduced by area"),
    Field("audio", "int16", "x", "1/32767", "16 kHz mono, f / fps seconds"),
    Field("phonemes", "int16", "a", "class", "phoneme under each 20 ms step; 0 is silence"),
    Field("faces", "uint8", "crops face face 3", "0-255", "aligned crops of uncovered frames"),
    Field("measures", "float32", "f m", "truth.py", "per frame: " + ", ".join(MEASURES)),
    Field("face_box", "float16", "f 4", "width, height", "left, top, right, bottom; NaN: no face"),
))  # fmt: skip

RECORD = Table("records", ("c", "i", "ci", "cs", "ca", "ce", "points", "joints", "quality"), (
    Field("id", "str", "", "-", "source/file/start frame; unique; the same on every run"),
    Field("schema", "int", "", "-", "version of this table"),
    Field("source", "str", "", "-", "corpus"),
    Field("person", "str", "", "-", "who, if known; empty if not"),
    Field("language", "str", "", "-", "ISO code of the speech; empty if not known"),
    Field("licence", "str", "", "-", "terms of use"),
    Field("fps", "float", "", "1/s", "frame rate of the cut"),
    Field("frames", "int", "", "frames", "f = 4 (t - 1) + 1"),
    Field("height", "int", "", "pixels", "H = 8 h"),
    Field("width", "int", "", "pixels", "W = 8 w"),
    Field("video_latents", "bfloat16", "t h w c", "-", "normalised codec mean of the clip"),
    Field("condition_latents", "bfloat16", "t h w c", "-", "same of [first frame, then zeros]"),
    Field("image_tokens", "bfloat16", "i ci", "-", "penultimate image tokens of the first frame"),
    Field("text_tokens", "bfloat16", "s cs", "-", "rows of the prompt's true length, not padded"),
    Field("caption", "str", "", "-", "the prompt behind text_tokens"),
    Field("audio_features", "bfloat16", "a ca", "-", "last hidden state for exactly this cut"),
    Field("audio", "int16", "x", "1/32767", "16 kHz mono of the cut"),
    Field("lip_mask", "uint8", "t h w", "1/255", "share of the cell inside the lips; 0: no mask"),
    Field("face_mask", "uint8", "t h w", "1/255", "share of the cell inside the face; 0: no mask"),
    Field("landmarks", "float16", "f points 2", "width, height", "x, y; NaN where no face"),
    Field("joints", "float16", "f joints 3", "width, height", "x, y, visibility 0-1"),
    Field("face_box", "float16", "f 4", "width, height", "left, top, right, bottom"),
    Field("identity", "float32", "ce", "-", "unit-length embedding of the reference face"),
    Field("expression_raw", "float", "", "eye distance^2", "variance without head and lips"),
    Field("body_raw", "float", "", "shoulder width^2", "variance of the joints"),
    Field("expression", "float", "", "rank", "rank of expression_raw in the corpus, 0-1"),
    Field("body", "float", "", "rank", "rank of body_raw in the corpus, 0-1"),
    Field("sync_confidence", "float", "", "-", "of the measure named in provenance"),
    Field("sync_offset", "int", "", "frames", "sound later than picture: positive"),
    Field("quality", "float32", "quality", "-", ", ".join(QUALITY)),
    Field("provenance", "str", "", "JSON", "for each field: model, version, weight hash"),
))  # fmt: skip

TABLES = {table.name: table for table in (PIXELS, RECORD)}


def encode(table: Table, record: Record, widths: Widths) -> Record:
    """Checks a record and turns its arrays into bytes.

    Args:
        table: PIXELS or RECORD.
        record: every field of the table and nothing else.
        widths: the letters in `table.widths` with their sizes.

    Returns:
        The same keys; arrays as bytes, scalars as Python str, int, float.

    Raises:
        UsageError: names the field, what was expected and what came.
    """
    _check_keys(table, record)
    letters = _letters(table, record, widths)
    return {field.name: _encode(field, record[field.name], letters) for field in table.fields}


def decode(table: Table, stored: Record, widths: Widths, fields: tuple[str, ...] = ()) -> Record:
    """The inverse of `encode`; arrays are read-only views of the stored bytes.

    Args:
        table: PIXELS or RECORD.
        stored: what `encode` returned, as read back; str may come as UTF-8 bytes.
        widths: the letters the data set fixes.
        fields: what to decode; empty means everything.

    Raises:
        UsageError: a field is missing or its bytes do not fill its shape.
    """
    missing = [field.name for field in table.fields if field.name not in stored]
    if missing:
        raise UsageError(f"{missing[0]}: missing from a stored record of {table.name}")
    letters = _letters(table, stored, widths)
    record = {}
    for field in table.fields:
        if field.name in fields or not fields or field.name == "frames":
            value = _decode(field, stored[field.name], letters)
            if field.name in fields or not fields:
                record[field.name] = value
    return record


def describe(table: Table) -> list[dict[str, str]]:
    """The table as it lies beside a data set (schema.json)."""
    return [dataclasses.asdict(field) for field in table.fields]


def latent_frames(frames: int) -> int:
    """Number of latent frames of a clip of `frames` = 4 n + 1 pixel frames."""
    if frames % TIME_STRIDE != 1:
        raise UsageError(f"frames: {frames} is not a multiple of {TIME_STRIDE} plus 1")
    return frames // TIME_STRIDE + 1


def _check_keys(table: Table, record: Record) -> None:
    names = [field.name for field in table.fields]
    missing = [name for name in names if name not in record]
    unknown = [name for name in record if name not in names]
    if missing:
        raise UsageError(f"{missing[0]}: missing; a record of {table.name} has {', '.join(names)}")
    if unknown:
        raise UsageError(f"{unknown[0]}: not a field of {table.name}, which has {', '.join(names)}")


def _letters(table: Table, record: Record, widths: Widths) -> dict[str, int]:
    absent = [letter for letter in table.widths if letter not in widths]
    if absent:
        raise UsageError(f"{absent[0]}: not among the widths of this data set of {table.name}")
    letters = dict(widths)
    if table["frames"].is_array:
        return letters
    letters["f"], letters["t"] = int(record["frames"]), latent_frames(int(record["frames"]))
    for side, cells in (("height", "h"), ("width", "w")):
        if record[side] % SPACE_STRIDE:
            raise UsageError(f"{side}: {record[side]} is not a multiple of {SPACE_STRIDE}")
        letters[cells] = int(record[side]) // SPACE_STRIDE
    return letters


def _shape(field: Field, letters: dict[str, int]) -> list[int | None]:
    return [int(d) if d.isdigit() else letters.get(d) for d in field.dims.split()]


def _bind(field: Field, shape: Sequence[int], letters: dict[str, int]) -> None:
    pairs = zip(field.dims.split(), shape, strict=True)
    letters.update((dim, size) for dim, size in pairs if not dim.isdigit())


def _expectation(field: Field, letters: dict[str, int]) -> str:
    sizes = " ".join("any" if size is None else str(size) for size in _shape(field, letters))
    return f"expected {field.dtype} [{field.dims}] = [{sizes}]"


def _encode(field: Field, value: Any, letters: dict[str, int]) -> Any:
    if not field.is_array:
        if not isinstance(value, _SCALARS[field.dtype]) or isinstance(value, bool):
            raise UsageError(f"{field.name}: expected {field.dtype}, got {type(value).__name__}")
        return {"str": str, "int": int, "float": float}[field.dtype](value)
    if not isinstance(value, np.ndarray):
        got = type(value).__name__
        raise UsageError(f"{field.name}: {_expectation(field, letters)}, got {got}")
    shape = _shape(field, letters)
    fits = len(shape) == value.ndim and all(
        size in (None, given) for size, given in zip(shape, value.shape, strict=True)
    )
    if not fits or value.dtype.name != field.dtype:
        got = f"{value.dtype.name} [{' '.join(map(str, value.shape))}]"
        raise UsageError(f"{field.name}: {_expectation(field, letters)}, got {got}")
    # The first field that shows an open letter binds it for the rest of the record.
    _bind(field, value.shape, letters)
    words = np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")
    return words.astype(f"<u{value.dtype.itemsize}").tobytes()


def _decode(field: Field, value: Any, letters: dict[str, int]) -> Any:
    if not field.is_array:
        if field.dtype == "str":
            return value.decode() if isinstance(value, bytes) else str(value)
        return int(value) if field.dtype == "int" else np.float32(value)
    dtype = _dtype(field.dtype)
    sizes = _shape(field, letters)
    count, rest = divmod(len(value), dtype.itemsize)
    known = math.prod(size for size in sizes if size is not None)
    # Of an open letter only one can follow from the number of bytes.
    open_size = count // known if known and sizes.count(None) == 1 else 0
    shape = [open_size if size is None else size for size in sizes]
    if rest or sizes.count(None) > 1 or math.prod(shape) != count:
        got = f"{len(value)} bytes"
        raise UsageError(f"{field.name}: {_expectation(field, letters)}, got {got}")
    _bind(field, shape, letters)
    words = np.frombuffer(value, f"<u{dtype.itemsize}")
    return words.astype(f"=u{dtype.itemsize}", copy=False).view(dtype).reshape(shape)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)
