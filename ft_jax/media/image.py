"""Pictures: any file Pillow reads in, uint8 RGB out; and the crop that a model sees of it.

A picture from a phone or the web is rarely plain RGB: `read` turns it upright (EXIF), puts what is
transparent on white and brings palettes, CMYK and 16 bits to 8-bit RGB. `frame` then chooses the
part of it that has the model's aspect ratio and shows the face at the size the model knows, and
`resize` brings that part to the model's pixels.

Shapes
  read    path -> [H W 3] uint8, at least 16 and at most 16,384 pixels a side
  frame   (H, W) + face box -> (left, top, right, bottom) in pixels, inside the picture
  resize  [H W 3] + region -> [height width 3] uint8

Boxes are (left, top, right, bottom) in pixels, the right and the lower edge outside.
Tests: tests/media/image_test.py.
"""

import dataclasses
import pathlib
import warnings
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from ft_jax.errors import UsageError
from ft_jax.media import file

MIN_SIDE = 16
MAX_SIDE = 16_384
MAX_PIXELS = 120_000_000  # of a decoded picture: 360 MB, more than any phone takes

Box: TypeAlias = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Framing:
    """How large the face stands in the crop, as a share of its height, and where."""

    smallest_face: float = 0.35  # what is smaller than this
    face: float = 0.5  # is brought to this; the rest stays as it was photographed
    center_x: float = 0.5  # where the middle of the face goes, if the picture allows
    center_y: float = 0.5


def read(path: str | pathlib.Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a picture as upright 8-bit RGB.

    Raises:
      UsageError: The file is missing, empty, not a picture, cut short, or of a size nobody can
        want animated.
    """
    from PIL import Image, ImageOps

    path = pathlib.Path(path)
    file.check(path, "a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are judged below, in one place
            with Image.open(path) as image:
                _check_size(path, *image.size)
                return _to_rgb(ImageOps.exif_transpose(image))
    except UsageError:
        raise
    except Image.DecompressionBombError:
        raise UsageError(f"{path}: too large a picture; expected {_limits()}") from None
    except Image.UnidentifiedImageError:
        raise UsageError(
            f"{path}: not a picture that can be decoded; expected PNG, JPEG, WebP or another "
            "format Pillow reads"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError) as error:
        # Pillow's decoders raise all of these on damaged data.
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UsageError(
            f"{path}: the picture is truncated or damaged ({reason}); expected a complete file"
        ) from None


def frame(height: int, width: int, aspect: float, face: Box | None, framing: Framing) -> Box:
    """The part of a picture to show a model.

    Without a face it is the largest crop of the aspect ratio, in the middle from left to right and
    towards the top of a tall picture, where heads are. With a face it is the largest crop around
    the face, unless the face were too small in it to be animated.

    Args:
      height: Rows of the picture.
      width: Columns of the picture.
      aspect: Width over height of the crop.
      face: Where the face is, or None.
      framing: How the face should stand in the crop.
    """
    crop_height = min(float(height), width / aspect)
    if face is None:
        center_x, top = width / 2, (height - crop_height) * 0.25
    else:
        left, upper, right, lower = face
        face_height = max(lower - upper, (right - left) / aspect)
        if face_height < framing.smallest_face * crop_height:
            crop_height = max(face_height / framing.face, MIN_SIDE)
        center_x = (left + right) / 2 + (0.5 - framing.center_x) * crop_height * aspect
        top = (upper + lower) / 2 - framing.center_y * crop_height
    crop_width = crop_height * aspect
    start_x = min(max(center_x - crop_width / 2, 0.0), width - crop_width)
    start_y = min(max(top, 0.0), height - crop_height)
    return start_x, start_y, start_x + crop_width, start_y + crop_height


def resize(
    image: UInt8[np.ndarray, "H W 3"], height: int, width: int, region: Box | None = None
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Resamples `region` of a picture (default: all of it) to height x width.

    Making smaller averages areas, as the training data was made; making larger is bicubic.
    """
    from PIL import Image

    left, top, right, bottom = region or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    is_smaller = right - left >= width and bottom - top >= height
    kernel = Image.Resampling.BOX if is_smaller else Image.Resampling.BICUBIC
    resized = Image.fromarray(image).resize((width, height), kernel, (left, top, right, bottom))
    return np.array(resized)


def _check_size(path: pathlib.Path, width: int, height: int) -> None:
    is_large = max(width, height) > MAX_SIDE or width * height > MAX_PIXELS
    if is_large or min(width, height) < MIN_SIDE:
        raise UsageError(f"{path}: is {width} x {height} pixels; expected {_limits()}")


def _limits() -> str:
    return (
        f"{MIN_SIDE} to {MAX_SIDE:,} pixels a side and at most "
        f"{MAX_PIXELS // 1_000_000} million pixels"
    )


def _to_rgb(image: Any) -> UInt8[np.ndarray, "H W 3"]:
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep(np.asarray(image))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _from_deep(grey: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Greys of 16 or 32 bits or floats to 8 bits; the file does not say what white is."""
    values = np.nan_to_num(grey.astype(np.float64))
    whites = (65_535.0,) if np.issubdtype(grey.dtype, np.integer) else (1.0, 255.0, 65_535.0)
    brightest = float(values.max())
    white = next((white for white in whites if brightest <= white), brightest)
    levels = np.rint(np.clip(values / white, 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=-1)
