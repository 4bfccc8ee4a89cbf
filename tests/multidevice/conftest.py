"""Eight simulated devices.

They must exist before JAX starts, so these tests run in a process of their own:
`pytest tests/multidevice`.
"""

import jax
import pytest

DEVICES = 8


def pytest_configure(config: pytest.Config) -> None:
    """Asks for the devices; JAX refuses when another test has started it already."""
    del config
    jax.config.update("jax_num_cpu_devices", DEVICES)


@pytest.fixture(autouse=True, scope="session")
def eight_devices() -> None:
    """Without them every test here would compare one device with itself."""
    assert len(jax.devices()) == DEVICES, f"{len(jax.devices())} devices; run this folder alone"
