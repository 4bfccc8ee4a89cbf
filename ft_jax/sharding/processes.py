"""Several processes as one: who speaks for all, and what all of them must agree on.

Every process of a run executes the same program on its own devices, so a decision that one of them
takes alone (from a file that another is just writing) would leave the others waiting in a
collective for ever.

Tests: tests/processes/train_test.py.
"""

import jax
import numpy as np


def is_first() -> bool:
    """Whether this process writes what is written once: logs, the summary of a run."""
    return jax.process_index() == 0


def agreed(answer: bool) -> bool:
    """The first process's answer, in every process; each of them must ask."""
    if jax.process_count() == 1:
        return answer
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(answer)))
