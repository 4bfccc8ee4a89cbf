r"""The measured claims: held-out faces and speech, decoded pixels, intervals.

    make demo-numbers                                        all rows, outputs/demo/numbers.json
    python benchmarks/demo_numbers.py --pairs 20             a quick look
    python benchmarks/demo_numbers.py --rows lips,closure    some rows
    python benchmarks/demo_numbers.py --weights outputs/train_mini/bundle.safetensors

Every clip is written as the generate command writes it, decoded, and measured by the landmark
network at zero lag; a clip that cannot be measured counts as 0. Intervals are paired bootstraps
over clips. Stopped runs go on where they were: clips lie under outputs/demo/numbers.

Rows: instrument base lips closure sweep identity jerk.
Tests: tests/examples/demo_numbers_test.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a file, from anywhere

from benchmarks.demo_clips import Gallery, digest, read_cases
from benchmarks.demo_rows import ROWS, Bench
from configs import sample
from ft_jax.checkpoints import bundle, handover
from ft_jax.errors import UsageError
from ft_jax.eval import identity, numbers
from ft_jax.eval.instrument import Instrument
from ft_jax.sampling.pipeline import Pipeline

ROOT = Path(__file__).resolve().parent.parent


def open_bench(args: argparse.Namespace) -> Bench:
    """Loads the system and chooses the cases.

    Raises:
      UsageError: Weights or clips are missing, or too few.
    """
    pipeline = Pipeline.load(args.weights, sample.get_config(args.sampling).to_dict())
    source, system = handover.read(args.weights), pipeline.system
    cases = read_cases(args.world)
    pairs = [case for case in cases if case.start == "open"][: args.pairs]
    if len(pairs) < args.pairs:
        raise UsageError(f"{args.world}: {len(pairs)} clips start open; expected {args.pairs}")
    name = digest(args.weights, repr(pipeline.cfg), args.seed)
    instrument = Instrument(system.landmarks, source.part("landmarks"))
    return Bench(
        gallery=Gallery(args.folder / name, pipeline, instrument, args.seed),
        pairs=pairs,
        hidden=[case for case in cases if case.start == "covered"][: max(args.pairs // 2, 10)],
        swept=pairs[: args.sweep_pairs or args.pairs],
        others=cases,
        codec=source.part("codec"),
        encoder=identity.Encoder(system.face, source.part("face")),
    )


def draw_world(args: argparse.Namespace) -> None:
    """Draws the held-out clips that are missing, through the world's own command."""
    from data_pipeline.world.__main__ import main as world

    count = max(round(2.4 * args.pairs), 100)  # about half start open, a quarter covered
    settings = {"out": args.world, "clips": count, "split": "heldout", "seed": args.world_seed}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    world([*flags, "--workers", "2"])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    folder = ROOT / "outputs" / "demo"
    parser.add_argument("--weights", type=Path, default=bundle.SHIPPED, help="a bundle")
    parser.add_argument("--out", type=Path, default=folder / "numbers.json")
    parser.add_argument("--folder", type=Path, default=folder / "numbers", help="for the clips")
    parser.add_argument("--pairs", type=int, default=200, help="held-out face x speech pairs")
    parser.add_argument("--sweep-pairs", type=int, default=0, help="fewer for the sweeps")
    parser.add_argument("--sampling", default="", help="variant of configs/sample.py, as fast")
    parser.add_argument("--rows", default="", help=f"some of {','.join(ROWS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--world-seed", type=int, default=20, help="of the held-out clips")
    args = parser.parse_args(argv)
    args.rows = args.rows.split(",") if args.rows else list(ROWS)
    if unknown := [row for row in args.rows if row not in ROWS]:
        raise UsageError(f"--rows: no row {unknown[0]!r}; expected some of {','.join(ROWS)}")
    if args.pairs < 2:
        raise UsageError(f"--pairs: {args.pairs}; expected at least 2")
    args.world = args.folder / f"world-{args.world_seed}"
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the rows one after the other; each is written as soon as it is known."""
    args = parse(argv)
    bundle.check(args.weights)
    draw_world(args)
    bench = open_bench(args)
    about = {
        "weights": digest(args.weights),
        "pairs": args.pairs,
        "sweep_pairs": len(bench.swept),
        "sampling": args.sampling,
        "seed": args.seed,
        "world_seed": args.world_seed,
    }
    content = numbers.merge(args.out, [], about)
    for row in args.rows:
        content = numbers.merge(args.out, ROWS[row](bench), about)
    print(numbers.table(content["numbers"]))
    print(f"written to {args.out}")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"demo_numbers: {error}")
