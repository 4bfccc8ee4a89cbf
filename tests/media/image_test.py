"""Pictures: whatever a phone or the web produces becomes upright RGB, or one explaining line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ft_jax.errors import UsageError
from ft_jax.media import image


def corners(height: int = 24, width: int = 40) -> np.ndarray:
    """Red above left, green above right, blue below left, white below right."""
    picture = np.full((height, width, 3), 255, np.uint8)
    top, left = slice(0, height // 2), slice(0, width // 2)
    bottom, right = slice(height // 2, None), slice(width // 2, None)
    picture[top, left], picture[top, right] = (255, 0, 0), (0, 255, 0)
    picture[bottom, left] = (0, 0, 255)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_lying_on_its_side_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(corners())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(image.read(tmp_path / "a.png"), corners())


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    if mode == "P":
        stored = Image.fromarray(np.zeros((20, 20), np.uint8), "P")
        stored.putpalette([200, 0, 0])
        stored.save(tmp_path / "a.png", transparency=0)
    else:
        Image.new(mode, (20, 20), (200, 0) if mode == "LA" else (200, 0, 0, 0)).save(
            tmp_path / "a.png"
        )
    assert (image.read(tmp_path / "a.png") == 255).all()


def test_half_transparent_is_halfway_to_white(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (0, 0, 0, 128)).save(tmp_path / "a.png")
    np.testing.assert_allclose(image.read(tmp_path / "a.png"), 127, atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    ramp = np.linspace(0, 65_535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / name)
    got = image.read(tmp_path / name)
    np.testing.assert_allclose(got[..., 0], ramp / 65_535 * 255, atol=1)


def test_other_colour_models_become_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = image.read(tmp_path / "a.jpg")[5, 5].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60
    Image.new("1", (20, 20), 1).save(tmp_path / "b.png")
    assert (image.read(tmp_path / "b.png") == 255).all()


def broken(folder: Path, kind: str) -> Path:
    """A picture with which something is wrong."""
    path = folder / f"{kind}.png"
    size = {"one": (1, 1), "wide": (20_000, 20), "huge": (16_000, 16_000)}.get(kind)
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is not a picture")
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:6000])
    elif kind == "truncated_jpeg":
        path = path.with_suffix(".jpg")
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "folder":
        path.mkdir()
    elif size:
        Image.new("1", size).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no such file"),
        ("empty", "empty"),
        ("folder", "is a folder"),
        ("text", "not a picture"),
        ("truncated", "truncated"),
        ("truncated_jpeg", "truncated"),
        ("one", "1 x 1 pixels; expected 16 to 16,384 pixels a side"),
        ("wide", "20000 x 20 pixels; expected 16 to 16,384 pixels a side"),
        ("huge", "expected 16 to 16,384 pixels a side and at most 120 million"),
    ],
)
def test_a_picture_nobody_can_use_is_named_with_what_was_expected(
    tmp_path: Path, kind: str, words: str
) -> None:
    path = broken(tmp_path, kind)
    with pytest.raises(UsageError) as caught:
        image.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert words in message and "expected" in message and "\n" not in message


@pytest.mark.parametrize("size", [(100, 100), (300, 100), (100, 300), (37, 411)])
@pytest.mark.parametrize("aspect", [1.0, 16 / 9])
@pytest.mark.parametrize("face", [None, (10.0, 60.0, 40.0, 95.0)])
def test_the_crop_has_the_aspect_and_stays_inside(
    size: tuple[int, int], aspect: float, face: image.Box | None
) -> None:
    height, width = size
    left, top, right, bottom = image.frame(height, width, aspect, face, image.Framing())
    assert left >= 0 and top >= 0 and right <= width + 1e-6 and bottom <= height + 1e-6
    assert (right - left) / (bottom - top) == pytest.approx(aspect)


def test_the_crop_follows_the_face_and_is_the_largest_there_is() -> None:
    framing = image.Framing(smallest_face=0.1)
    left, top, right, bottom = image.frame(100, 400, 1.0, (300.0, 20.0, 340.0, 60.0), framing)
    assert (right - left, bottom - top) == (100, 100)
    assert (left + right) / 2 == pytest.approx(320)
    assert image.frame(100, 400, 1.0, (380.0, 20.0, 400.0, 60.0), framing)[2] == 400


def test_a_small_face_makes_the_crop_smaller_and_a_large_one_does_not() -> None:
    framing = image.Framing(smallest_face=0.3, face=0.4)
    small = image.frame(1000, 1000, 1.0, (500.0, 500.0, 600.0, 600.0), framing)
    assert small[3] - small[1] == pytest.approx(250)
    large = image.frame(1000, 1000, 1.0, (200.0, 200.0, 800.0, 800.0), framing)
    assert large == (0, 0, 1000, 1000)


def test_making_smaller_averages_areas() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    small = image.resize(picture, 16, 16)
    mean = picture.reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(small, mean, atol=1)


def test_a_region_is_cut_out_exactly_and_a_small_one_enlarged() -> None:
    np.testing.assert_array_equal(
        image.resize(corners(40, 40), 20, 20, (0.0, 0.0, 20.0, 20.0)),
        np.broadcast_to(np.array([255, 0, 0], np.uint8), (20, 20, 3)),
    )
    assert image.resize(corners(16, 16), 64, 64).shape == (64, 64, 3)
