"""Make a corpus of drawn talking people.

    python -m data_pipeline.world --out DIR --clips 3000 --split train --seed 0 --workers 2

Clips that are there already are not made again; a longer run continues a shorter one.
Tests: tests/data_pipeline/world/write_test.py.
"""

import argparse
import sys
from pathlib import Path

from data_pipeline.world import corpus, speech
from ft_jax.errors import UsageError


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.world", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--clips", type=int, required=True, help="how many")
    parser.add_argument("--split", choices=speech.SPLITS, default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--frames", type=int, default=33, help="4n + 1, at 23 frames/s")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--speech", type=Path, default=None, help="folder of make_speech (default: embedded)"
    )
    args = parser.parse_args(argv)
    if args.clips < 1:
        raise UsageError(f"--clips {args.clips}: expected 1 or more")
    order = corpus.Order(
        out=args.out,
        split=args.split,
        seed=args.seed,
        clips=args.clips,
        first=args.first,
        frames=args.frames,
        pool=args.speech,
    )
    corpus.make(order, args.workers)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
