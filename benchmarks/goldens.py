"""Compares the networks with outputs of the reference programs: `-m benchmarks.goldens FOLDER`.

The folder holds dit_tiny.safetensors and vae_tiny.safetensors: random weights, inputs and outputs.
Prints one line per comparison; exit code 1 if one is further off than allowed, 2 if a file lacks.
"""

from pathlib import Path

from benchmarks import goldens_dit, goldens_vae
from ft_jax.cli.entry import run
from ft_jax.errors import UsageError

FILES = ("dit_tiny.safetensors", "vae_tiny.safetensors")


def main(arguments: list[str]) -> int:
    """Runs every comparison on the folder named by the one argument."""
    if len(arguments) != 1:
        raise UsageError(f"goldens: {len(arguments)} arguments; expected the folder of the files")
    directory = Path(arguments[0])
    if missing := [name for name in FILES if not (directory / name).is_file()]:
        raise UsageError(f"{directory}: lacks {' and '.join(missing)}; expected a folder with them")
    rows = [*goldens_vae.check(directory), *goldens_dit.check(directory)]
    print(f"{'comparison':<32} {'largest error':>14} {'allowed':>9}")
    for name, error, gate in rows:
        print(f"{name:<32} {error:>14.2e} {gate:>9.0e}  {'ok' if error <= gate else 'TOO FAR'}")
    return int(any(not error <= gate for _, error, gate in rows))


if __name__ == "__main__":
    run(main)
