"""All commands under one name: `ft-jax generate ...` is `python -m ft_jax.cli.generate ...`."""

import runpy
import sys
from pathlib import Path

from ft_jax.cli import entry
from ft_jax.errors import UsageError

_FRAME = (
    "__init__",
    "__main__",
    "compiled",
    "entry",
    "memory",
    "processes",
    "progress",
)  # no commands
COMMANDS = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in _FRAME)


def command(arguments: list[str]) -> None:
    """Runs the command that the first argument names, with the rest.

    Raises:
      UsageError: There is no such command.
    """
    if not arguments or arguments[0] not in COMMANDS:
        got = arguments[0] if arguments else "no command"
        raise UsageError(f"{got}: unknown; expected one of {', '.join(COMMANDS)}")
    sys.argv = [f"ft-jax {arguments[0]}", *arguments[1:]]
    runpy.run_module(f"ft_jax.cli.{arguments[0]}", run_name="__main__", alter_sys=True)


def main() -> None:
    """The console script."""
    try:
        command(sys.argv[1:])
    except UsageError as error:
        print(f"ft_jax: {error}", file=sys.stderr)
        sys.exit(entry.USAGE_EXIT)


if __name__ == "__main__":
    main()
