"""The flag that makes several processes one run, by `jax.distributed`.

JAX finds the others by itself under Slurm (srun), on TPU VMs, on GKE and under Open MPI. Elsewhere
each process is told: --processes=HOST:PORT,COUNT,INDEX, where HOST is the machine of process 0.

Tests: tests/cli/processes_test.py, tests/processes/train_test.py.
"""

import re

from absl import flags

from ft_jax.errors import UsageError

ALONE = "one"
_PROCESSES = flags.DEFINE_string(
    "processes",
    "",
    f"HOST:PORT,COUNT,INDEX of this process; {ALONE!r}: alone, also on a cluster; not given: what "
    "JAX detects (Slurm, TPU VMs, GKE, Open MPI), else alone.",
)
_GIVEN = re.compile(r"(?P<address>.+:\d+),(?P<count>\d+),(?P<index>\d+)")


def join() -> int:
    """Makes this process one of several; must run before JAX is asked for devices.

    Returns:
      Number of processes; 0 if JAX has found the cluster, which only it knows then.

    Raises:
      UsageError: The flag cannot be understood, or the others cannot be reached.
    """
    import jax

    text = _PROCESSES.value
    if text == ALONE:
        return 1
    try:
        if text:
            address, count, index = parse(text)
            jax.distributed.initialize(address, count, index)
            return count
        jax.distributed.initialize()
        return 0
    except ValueError:  # no cluster was found
        return 1
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no answer"])[0][:200]
        raise UsageError(
            f"--processes: the processes do not find each other ({reason}); expected process 0 at "
            f"that address, or --processes={ALONE}"
        ) from None


def parse(text: str) -> tuple[str, int, int]:
    """HOST:PORT,COUNT,INDEX -> address, count, index.

    Raises:
      UsageError: It has another form, or the index is not below the count.
    """
    found = _GIVEN.fullmatch(text)
    if not found or int(found["index"]) >= int(found["count"]):
        raise UsageError(
            f"--processes: {text!r}; expected HOST:PORT,COUNT,INDEX with INDEX from 0 to COUNT - 1"
        )
    return found["address"], int(found["count"]), int(found["index"])
