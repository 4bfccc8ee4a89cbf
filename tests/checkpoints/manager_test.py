import gc
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.checkpoints.manager import Manager
from ft_jax.errors import UsageError

# Orbax leaves the other reads of a damaged checkpoint behind on a closed event loop.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def trees(value: float) -> dict:
    params = {"layer": {"kernel": jnp.full((3, 2), value), "bias": jnp.full(2, value)}}
    moments = (jax.tree.map(jnp.copy, params), None)
    rest = {"step": jnp.asarray(int(value), jnp.int32), "opt_state": moments}
    return {"params": params, "ema": jax.tree.map(lambda x: 2 * x, params), "rest": rest}


def abstract(tree: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


@pytest.fixture
def manager(tmp_path):
    made = Manager(tmp_path, keep=2)
    yield made
    made.close()
    gc.collect()


def save(manager: Manager, *steps: int) -> None:
    for step in steps:
        manager.save(step, trees(step), {"batches": step, "config": {"a": [1, None]}})
    manager.wait()


def test_state_position_and_settings_come_back_together(manager):
    save(manager, 3)
    saved = manager.restore(abstract(trees(0)))
    assert saved is not None and saved.step == 3
    assert saved.meta["batches"] == 3 and saved.meta["config"] == {"a": [1, None]}
    jax.tree.map(np.testing.assert_array_equal, dict(saved.trees), trees(3))


def test_only_the_newest_stay(manager):
    save(manager, 1, 2, 3)
    assert manager.steps() == [3, 2]


def test_the_best_and_those_of_every_so_many_steps_stay_as_well(tmp_path):
    for first in (True, False):  # the same after a restart
        made = Manager(tmp_path, keep=1, keep_every=4, best="loss")
        for step, loss in ((2, 0.5), (4, 0.7), (6, None), (7, 0.6)) if first else ((9, 0.8),):
            made.save(step, trees(step), {}, {"loss": loss} if loss else None)
        made.wait()
        assert made.steps() == ([7, 4, 2] if first else [9, 4, 2]) and made.best() == 2
        made.close()


def test_a_full_disk_is_said_in_one_line_before_and_while_saving(manager, monkeypatch):
    save(manager, 1)
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    small = {"params": {"a": jax.ShapeDtypeStruct((2**18,), jnp.float32)}, "ema": None}
    manager.check_room(small)
    large = {"params": {"a": jax.ShapeDtypeStruct((2**18 + 1,), jnp.float32)}, "ema": None}
    with pytest.raises(UsageError, match=r"checkpoints: 1 MiB are free; expected 1 MiB"):
        manager.check_room(large)

    def full(*arguments, **options):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device")

    monkeypatch.setattr(manager._orbax, "save", full)
    with pytest.raises(UsageError, match="checkpoints: the disk is full"):
        manager.save(2, trees(2), {})
    assert manager.steps() == [1]


def test_reading_without_a_shape_gives_the_average_as_numpy(manager):
    save(manager, 3)
    saved = manager.restore()
    assert saved is not None and list(saved.trees) == ["ema"]
    np.testing.assert_array_equal(saved.trees["ema"]["layer"]["bias"], np.full(2, 6.0))


def test_without_an_average_the_parameters_are_read(manager):
    manager.save(1, {**trees(1), "ema": None}, {})
    manager.wait()
    saved = manager.restore()
    assert saved is not None and list(saved.trees) == ["params"]


def test_an_empty_folder_has_no_checkpoint(manager):
    assert manager.restore(abstract(trees(0))) is None


def test_donating_the_arrays_right_after_saving_does_no_harm(manager):
    state = trees(5)
    manager.save(5, state, {})
    jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(state)
    manager.wait()
    saved = manager.restore(abstract(trees(0)))
    assert saved is not None
    jax.tree.map(np.testing.assert_array_equal, dict(saved.trees), trees(5))


def hurt(manager: Manager, step: int, item: str) -> str:
    folder = manager.directory / str(step) / item
    for file in Path(folder).rglob("*"):
        if file.is_file() and "/d/" in str(file):
            file.write_bytes(b"")
    return str(manager.directory / str(step))


def test_a_damaged_newest_checkpoint_is_passed_over_by_name(manager, caplog):
    save(manager, 1, 2)
    name = hurt(manager, 2, "ema")
    saved = manager.restore(abstract(trees(0)))
    assert saved is not None and saved.step == 1
    assert f"checkpoint passed over: {name}" in caplog.text


def test_values_that_differ_from_their_checksum_are_damage(manager, caplog, monkeypatch):
    save(manager, 1)
    with monkeypatch.context() as changed:
        changed.setattr("ft_jax.checkpoints.manager._checksum", lambda leaf: 0)
        save(manager, 2)
    saved = manager.restore(abstract(trees(0)))
    assert saved is not None and saved.step == 1
    assert "checksum differs" in caplog.text


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(manager):
    save(manager, 1, 2)
    hurt(manager, 2, "params")
    manager.restore(abstract(trees(0)))
    save(manager, 2)
    saved = manager.restore(abstract(trees(0)))
    assert saved is not None and saved.step == 2


def test_a_folder_with_nothing_but_damage_is_refused(manager):
    save(manager, 2)
    name = hurt(manager, 2, "params")
    with pytest.raises(UsageError, match=name):
        manager.restore(abstract(trees(0)))
