"""Names of pods, and the table of chips."""

import pytest

from ft_jax.errors import UsageError
from ft_jax.plan import topology
from ft_jax.plan.chips import CHIPS
from ft_jax.training import compiler


def test_a_pod_has_as_many_devices_as_jax_sees():
    assert topology.parse("v6e:8x8").devices == 64
    assert topology.parse("tpu7x:4x4x4").devices == 128  # two of a chip


@pytest.mark.parametrize("name", ["v4:2x2", "v6e", "v6e:8", "v6e:0x8", "v5p:8x8", "v6e:8x8x", ""])
def test_a_name_that_is_no_pod_is_a_users_mistake(name):
    with pytest.raises(UsageError, match="--topology"):
        topology.parse(name)


def test_every_chip_has_options_of_its_own_kind():
    for chip in CHIPS.values():
        assert any(chip.kind in option.kinds for option in compiler.STEP)
    kinds = {kind for option in compiler.STEP for kind in option.kinds}
    assert kinds == {"cpu", *(chip.kind for chip in CHIPS.values())}


def test_the_process_that_compiles_never_looks_for_a_tpu():
    found = topology.environment(topology.parse("v5p:4x4x4"))
    assert found["JAX_PLATFORMS"] == "cpu" and found["TPU_SKIP_MDS_QUERY"] == "1"
    assert found["TPU_ACCELERATOR_TYPE"] == "v5p-64"


def test_a_compiler_in_a_folder_of_its_own_is_found_and_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr(topology, "APART", tmp_path)
    pod = topology.parse("v6e:2x2")
    once = topology.environment(pod, "here")["PYTHONPATH"]
    assert once.split(":") == ["here", str(tmp_path)]
    assert topology.environment(pod, once)["PYTHONPATH"] == once
    monkeypatch.setattr(topology, "APART", tmp_path / "missing")
    assert topology.environment(pod, "here")["PYTHONPATH"] == "here"
