"""Command line of the build.

    python -m data_pipeline.build pixels --clips DIR --out DATA
    python -m data_pipeline.build records --clips DIR --weights BUNDLE --out DATA

A build that was interrupted goes on where it stopped; a finished one of the same settings is left
as it is.
"""

import argparse
import dataclasses
import os
import sys

from data_pipeline.build.config import BuildConfig
from data_pipeline.build.run import build
from ft_jax.cli.entry import run


def main() -> None:
    """Parses the flags and builds."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipeline.build", description="Clips -> a data set to train on."
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="pixels|records")
    for kind in ("pixels", "records"):
        flags = kinds.add_parser(kind)
        flags.add_argument("--out", required=True, help="folder of the data set")
        flags.add_argument("--workers", type=int, default=os.cpu_count() or 1)
        flags.add_argument("--overwrite", action="store_true")
        for field in dataclasses.fields(BuildConfig):
            required = field.name == "clips" or (field.name == "weights" and kind == "records")
            if field.name != "kind" and (field.name != "weights" or kind == "records"):
                default = None if required else field.default
                flags.add_argument(
                    f"--{field.name}", required=required, default=default, type=_type(field)
                )
    given = vars(parser.parse_args())
    out, workers, overwrite = (given.pop(name) for name in ("out", "workers", "overwrite"))
    found = build(BuildConfig(**given), out, workers, overwrite=overwrite)
    left_out = sum(found["rejects"].values())
    print(f"{out}: {found['clips']} clips, {found['hours']:.2f} h, {left_out} left out")
    for reason, count in found["rejects"].items():
        print(f"  {count}  {reason}", file=sys.stderr)


def _type(field: dataclasses.Field) -> type:
    return {"str": str, "int": int, "float": float}.get(str(field.type), field.type)


if __name__ == "__main__":
    run(main)
