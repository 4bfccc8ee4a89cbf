"""Which of several hosts holds up the others: the one that is busy longest between two lines.

Steps take equally long everywhere, as the hosts wait for each other on the devices. What differs is
the time in which a host does not wait for a device: loading, checkpoints, a slow processor. These
seconds travel as one number a process over the devices, behind the step that is running, and are
read one step later like any metric.

Tests: tests/training/hosts_test.py (two processes).
"""

import socket
from collections.abc import Mapping

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

NAME = 64  # bytes of a host's name


class Hosts:
    """All processes of a run by the names of their hosts; to be made by all of them together."""

    def __init__(self) -> None:
        """Learns the names; waits for every process."""
        own = np.zeros(NAME, np.uint8)
        written = f"{socket.gethostname()[: NAME - 8]}/{jax.process_index()}".encode()[:NAME]
        own[: len(written)] = np.frombuffer(written, np.uint8)
        rows = np.asarray(multihost_utils.process_allgather(own)).reshape(-1, NAME)
        self.names = tuple(bytes(row).rstrip(b"\0").decode() for row in rows)
        devices = np.array(jax.devices())
        mesh = Mesh(devices, ("all",))
        self._apart = NamedSharding(mesh, PartitionSpec("all"))
        together = NamedSharding(mesh, PartitionSpec())
        self._owners = [device.process_index for device in devices.flat]
        self._gather = jax.jit(lambda x: x, out_shardings=together)

    def spread(self, seconds: float) -> jax.Array:
        """A row a device, the seconds of its process; by every process at once, waits for none."""
        value = np.full(1, seconds, np.float32)
        rows = jax.make_array_from_callback((len(self._owners),), self._apart, lambda index: value)
        return self._gather(rows)

    def slowest(self, rows: np.ndarray) -> Mapping[str, str | float]:
        """Name and seconds of the busiest host, and the median of all, from what was spread."""
        seconds = dict(zip(self._owners, rows.tolist(), strict=True))
        worst = max(seconds, key=seconds.__getitem__)
        median = float(np.median(list(seconds.values())))
        return {"host": self.names[worst], "seconds": seconds[worst], "median": median}
