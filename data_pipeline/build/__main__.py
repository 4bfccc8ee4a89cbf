"""Command line of the build.

    python -m data_pipeline.build pixels --clips DIR --out DATA
    python -m data_pipeline.build records --clips DIR --weights WEIGHTS --out DATA

Many machines that see the same folder: each runs the command with --share INDEX/COUNT, on all of
its accelerators; when they are done, the command without it writes DATA.

A build that was interrupted goes on where it stopped; a finished one of the same settings is left
as it is.
"""

import argparse
import dataclasses
import os
import sys
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from data_pipeline.build.config import RECORDS_ONLY, BuildConfig
from data_pipeline.build.run import build, build_share
from ft_jax.errors import UsageError


class Parser(argparse.ArgumentParser):
    """Refuses in one line, like every other command."""

    def error(self, message: str) -> NoReturn:
        """Called by argparse for what it does not understand."""
        raise UsageError(f"{self.prog}: {message}; --help lists the flags")


def main(argv: Sequence[str] | None = None) -> None:
    """Parses the flags and builds."""
    parser = Parser(
        prog="python -m data_pipeline.build", description="Clips -> a data set to train on."
    )
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="pixels|records")
    for kind in ("pixels", "records"):
        _add_flags(
            kinds.add_parser(kind, help=f"the table {kind} of data_pipeline/schema.py"),
            unread={"kind"} | ({*RECORDS_ONLY} if kind == "pixels" else set()),
        )
    given = vars(parser.parse_args(argv))
    out, workers, overwrite = (given.pop(name) for name in ("out", "workers", "overwrite"))
    if share := given.pop("share"):
        count = build_share(BuildConfig(**given), out, workers, _share(share))
        print(f"{out}: share {share} is done ({count} clips); without --share it is written")
        return
    found = build(BuildConfig(**given), out, workers, overwrite=overwrite)
    left_out = sum(found["rejects"].values())
    print(f"{out}: {found['clips']} clips, {found['hours']:.2f} h, {left_out} left out")
    for reason, count in found["rejects"].items():
        print(f"  {count}  {reason}")


def _add_flags(parser: argparse.ArgumentParser, unread: set[str]) -> None:
    for field in dataclasses.fields(BuildConfig):
        if field.name not in unread:
            is_needed = field.default is dataclasses.MISSING
            parser.add_argument(
                f"--{field.name}",
                required=is_needed,
                default=None if is_needed else field.default,
                help=None if is_needed else f"default: {field.default!r}",
                **_kind(typing.get_type_hints(BuildConfig)[field.name]),
            )
    parser.add_argument("--out", required=True, help="folder of the data set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--share", help="INDEX/COUNT: encode these clips only, write no data set")
    parser.add_argument("--overwrite", action="store_true", help="replace another data set")


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(f"--share: {text!r}; expected INDEX/COUNT with INDEX from 0 to COUNT - 1")
    return int(index), int(count)


def _kind(wanted: Any) -> dict[str, Any]:
    """How argparse is told about a type."""
    if typing.get_origin(wanted) is typing.Literal:
        return {"choices": typing.get_args(wanted)}
    return {"action": argparse.BooleanOptionalAction} if wanted is bool else {"type": wanted}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.strerror is None:
            raise
        print(f"error: {error.filename or 'system'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
