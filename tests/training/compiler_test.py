"""The table of compiler options."""

from types import SimpleNamespace

import jax
import pytest

from ft_jax.training import compiler


def test_a_device_gets_the_options_of_its_kind_only():
    v5e, v5p, other = (
        compiler.step_options(SimpleNamespace(device_kind=kind))
        for kind in ("TPU v5 lite", "TPU v5", "NVIDIA H200")
    )
    assert "xla_tpu_enable_async_collective_fusion" in v5e  # may hang on v5p
    assert "xla_tpu_enable_async_collective_fusion" not in v5p
    assert "xla_tpu_enable_async_all_to_all" in v5p
    assert other == {}


@pytest.mark.parametrize(("version", "takes"), [((0, 10, 2), True), ((0, 12, 0), False)])
def test_what_a_later_compiler_refuses_is_not_asked_of_it(monkeypatch, version, takes):
    monkeypatch.setattr(jax, "__version_info__", version)
    v5e, v6e = (
        compiler.step_options(SimpleNamespace(device_kind=kind))
        for kind in ("TPU v5 lite", "TPU v6 lite")
    )
    name = "xla_tpu_enable_async_collective_fusion"
    assert name in v5e and (name in v6e) == takes
    assert "xla_enable_async_all_gather" in v6e


def test_the_first_device_is_the_default():
    assert compiler.step_options() == compiler.step_options(jax.devices()[0])
    assert compiler.step_options() == {"xla_backend_optimization_level": 1}


def test_every_option_says_what_it_is_for_and_stands_once():
    assert all(option.purpose and option.kinds for option in compiler.STEP)
    names = [option.name for option in compiler.STEP]
    assert len(names) == len(set(names))
