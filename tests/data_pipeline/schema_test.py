import ml_dtypes
import numpy as np
import pytest

from data_pipeline import schema
from ft_jax.errors import UsageError

LETTERS = {
    "f": 9, "t": 3, "H": 16, "W": 24, "h": 2, "w": 3, "x": 40, "a": 7, "s": 5, "i": 4, "m": 10,
    "c": 16, "ci": 6, "cs": 3, "ca": 2, "ce": 8, "face": 12, "crops": 2,
    "points": 11, "joints": 4, "quality": 5,
}  # fmt: skip


def any_bits(field: schema.Field, rng: np.random.Generator) -> object:
    """A value of the field's type whose bits are arbitrary: NaNs and signed zeros included."""
    if field.dtype == "str":
        return f"{field.name} – ünïcode"
    if field.dtype == "int":
        return int(rng.integers(-5, 1 << 40))
    if field.dtype == "float":
        return np.float32(rng.normal())
    dtype = np.dtype(ml_dtypes.bfloat16 if field.dtype == "bfloat16" else field.dtype)
    shape = [int(d) if d.isdigit() else LETTERS[d] for d in field.dims.split()]
    bits = rng.integers(0, 1 << 8 * dtype.itemsize, shape, np.uint64)
    return bits.astype(f"u{dtype.itemsize}").view(dtype)


def make(table: schema.Table, seed: int = 0) -> tuple[schema.Record, dict[str, int]]:
    rng = np.random.default_rng(seed)
    record = {field.name: any_bits(field, rng) for field in table.fields}
    if table is schema.RECORD:
        record |= {"frames": LETTERS["f"], "height": 16, "width": 24}
    return record, {letter: LETTERS[letter] for letter in table.widths}


@pytest.mark.parametrize("table", schema.TABLES.values(), ids=schema.TABLES)
def test_every_field_comes_back_bit_for_bit(table: schema.Table) -> None:
    record, widths = make(table)
    stored = schema.encode(table, record, widths)
    assert all(isinstance(value, (bytes, str, int, float)) for value in stored.values())
    back = schema.decode(table, stored, widths)
    assert list(back) == [field.name for field in table.fields]
    for field in table.fields:
        before, after = record[field.name], back[field.name]
        if field.is_array:
            assert after.dtype == before.dtype and after.shape == before.shape, field.name
            assert after.tobytes() == before.tobytes(), field.name
        else:
            assert after == before, field.name


def test_arrays_cost_their_own_size_in_little_endian_order() -> None:
    record, widths = make(schema.PIXELS)
    record["audio"] = np.array([1, 256, -2], np.int16)
    stored = schema.encode(schema.PIXELS, record, widths)
    assert stored["audio"] == b"\x01\x00\x00\x01\xfe\xff"
    strided = record | {"frames": np.asfortranarray(record["frames"])}
    assert schema.encode(schema.PIXELS, strided, widths)["frames"] == stored["frames"]


def test_decoding_some_fields_gives_just_these() -> None:
    record, widths = make(schema.PIXELS)
    stored = schema.encode(schema.PIXELS, record, widths)
    some = schema.decode(schema.PIXELS, stored, widths, ("id", "measures"))
    assert list(some) == ["id", "measures"]
    np.testing.assert_array_equal(some["measures"], record["measures"])


@pytest.mark.parametrize(
    ("table", "name", "value", "got"),
    [
        ("records", "lip_mask", np.zeros((3, 2, 3), np.float32), "float32 [3 2 3]"),
        ("records", "lip_mask", np.zeros((2, 2, 3), np.uint8), "uint8 [2 2 3]"),
        ("records", "landmarks", np.zeros((9, 11), np.float16), "float16 [9 11]"),
        ("records", "identity", [0.0] * 8, "list"),
        ("records", "caption", None, "NoneType"),
        ("records", "body", "much", "str"),
        ("pixels", "face_box", np.zeros((8, 4), np.float16), "float16 [8 4]"),
        ("pixels", "person_index", True, "bool"),
    ],
)  # fmt: skip
def test_wrong_field_is_named_with_what_was_expected(
    table: str, name: str, value: object, got: str
) -> None:
    record, widths = make(schema.TABLES[table])
    with pytest.raises(UsageError) as refused:
        schema.encode(schema.TABLES[table], record | {name: value}, widths)
    field = schema.TABLES[table][name]
    shape = " ".join(d if d.isdigit() else str(LETTERS[d]) for d in field.dims.split())
    wanted = f"{field.dtype} [{field.dims}] = [{shape}]" if field.is_array else field.dtype
    assert str(refused.value) == f"{name}: expected {wanted}, got {got}"


@pytest.mark.parametrize(("name", "value"), [("frames", 8), ("height", 20), ("width", 9)])
def test_sizes_the_codec_cannot_hold_are_refused(name: str, value: int) -> None:
    record, widths = make(schema.RECORD)
    with pytest.raises(UsageError, match=f"{name}: {value} is not a multiple of"):
        schema.encode(schema.RECORD, record | {name: value}, widths)


def test_missing_and_unknown_fields_are_named() -> None:
    record, widths = make(schema.PIXELS)
    with pytest.raises(UsageError, match=r"^mouth: not a field of pixels"):
        schema.encode(schema.PIXELS, record | {"mouth": 1}, widths)
    stored = schema.encode(schema.PIXELS, record, widths)
    for function, given in ((schema.encode, record), (schema.decode, stored)):
        without = {name: value for name, value in given.items() if name != "audio"}
        with pytest.raises(UsageError, match=r"^audio: missing"):
            function(schema.PIXELS, without, widths)


def test_bytes_that_do_not_fill_the_shape_are_refused() -> None:
    record, widths = make(schema.RECORD)
    stored = schema.encode(schema.RECORD, record, widths)
    for name in ("video_latents", "text_tokens", "audio"):
        with pytest.raises(UsageError, match=rf"^{name}: expected .* bytes"):
            schema.decode(schema.RECORD, stored | {name: stored[name][:-1]}, widths)
    with pytest.raises(UsageError, match=r"^ce: not among the widths"):
        schema.decode(schema.RECORD, stored, {k: v for k, v in widths.items() if k != "ce"})


def test_records_have_the_fields_of_the_specification() -> None:
    names = (
        "id schema source person language licence fps frames height width video_latents "
        "condition_latents image_tokens text_tokens caption audio_features audio lip_mask "
        "face_mask landmarks joints face_box identity expression_raw body_raw expression body "
        "sync_confidence sync_offset quality provenance"
    )
    assert [field.name for field in schema.RECORD.fields] == names.split()
    assert all(field.unit and field.meaning for field in schema.RECORD.fields)
