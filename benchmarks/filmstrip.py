r"""Talking clips as one picture: a row of frames for each, its sound drawn below.

    python benchmarks/filmstrip.py --out docs/images/clips.png CLIP.mp4 [CLIP.mp4 ...]

The picture of the README is made of clips of make demo (own, other, long) by this command.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from ft_jax.errors import UsageError
from ft_jax.media import file, sound, video

SIDE, GAP, WAVE = 128, 4, 34  # pixels: a frame, the space between two, the height of the sound
PAPER, INK = (255, 255, 255), (90, 110, 140)


def row(path: Path, columns: int) -> UInt8[np.ndarray, "H W 3"]:
    """Frames at equal distances, and under each the sound from it to the next."""
    frames = video.read(path, size=(SIDE, SIDE)).frames
    wide = columns * (SIDE + GAP) - GAP
    strip = Image.new("RGB", (wide, SIDE + WAVE), PAPER)
    for column, number in enumerate(np.linspace(0, len(frames) - 1, columns).round().astype(int)):
        strip.paste(Image.fromarray(frames[number]), (column * (SIDE + GAP), 0))
    draw = ImageDraw.Draw(strip)
    middle = SIDE + WAVE // 2
    for x, height in enumerate(loudness(sound.read(path).speech, wide)):
        draw.line([(x, middle - height), (x, middle + height)], fill=INK)
    return np.asarray(strip)


def loudness(speech: Float[np.ndarray, " x"], wide: int) -> list[float]:
    """Half the height of the sound in each of `wide` columns of pixels."""
    peaks = np.array([np.abs(part).max(initial=0.0) for part in np.array_split(speech, wide)])
    return list(peaks / max(peaks.max(), 1e-6) * (WAVE / 2 - 4))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("clips", type=Path, nargs="+", help="mp4 files with sound")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    parser.add_argument("--columns", type=int, default=8, help="frames of each clip")
    args = parser.parse_args(argv)
    file.check_target(args.out, ".png")
    picture = np.concatenate([row(path, args.columns) for path in args.clips])
    Image.fromarray(picture).quantize(160).save(args.out, optimize=True)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
