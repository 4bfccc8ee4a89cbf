"""What learns, by one word, through both stages: low-rank changes move, the base stays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import stage1_clip, stage2_frame
from ft_jax.checkpoints import bundle, handover
from ft_jax.checkpoints.manager import Manager
from ft_jax.checkpoints.tree import flatten
from ft_jax.cli import train
from ft_jax.errors import UsageError
from ft_jax.sharding import mesh
from ft_jax.training import loop, origin
from tests.sampling import tiny_system
from tests.training import tiny_records


def prepared(config: Any, records: Path, source: Path, **flags: Any) -> tuple[Any, Any, Any, dict]:
    """Run, stage, feed and settings at the size of the tests."""
    c = config.get_config("tiny")
    c.data.path, c.init_from = str(records), str(source)
    c.every.evaluate = c.every.save = 0
    c.update_from_flattened_dict({"train": "lora", **flags})
    run, stage, data = train.prepare(c.to_dict())
    feed = train.Records(data, stage.reads, run.seed, tuple(range(data.batch_size)))
    return run, stage, feed, c.to_dict()


def start(planned: origin.Plan, run: Any, stage: Any) -> Any:
    """The state before step 0."""
    source = handover.read(run.init_from)
    return origin.started(planned, stage, source, run.init_require, run.seed, run.optim.ema)


def plan(run: Any, stage: Any) -> origin.Plan:
    return origin.plan(stage, run.optim, run.num_steps, mesh.make(run.mesh), run.mesh.rules)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_records.write(tmp_path_factory.mktemp("data") / "records")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model without branches."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    settings = stage1_clip.get_config("tiny").model.to_dict()
    whole = tiny_system.denoiser_params(tiny_system.system().denoiser)
    bundle.save(path, settings, {"denoiser": {"dit": whole["dit"]}})
    return path


@pytest.fixture(scope="module")
def first(records: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1 of two steps, the second of which moves."""
    run, stage, feed, settings = prepared(stage1_clip, records, base, num_steps=2)
    workdir = tmp_path_factory.mktemp("clip")
    assert loop.train(run, stage, feed, workdir, settings).finished
    return workdir


def leaves(path: Path) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in flatten(handover.read(path).parts).items()}


def test_low_rank_changes_learn_over_a_base_that_stays_bit_for_bit(first: Path, base: Path):
    before, after = leaves(base), leaves(first)
    for path, leaf in before.items():
        np.testing.assert_array_equal(after[path], leaf, err_msg=path, strict=True)
    changes = [path for path in after if "/lora/" in path and path.endswith("/up")]
    assert len(changes) == 10 and all(np.any(after[path]) for path in changes)


def test_stage_two_goes_on_from_the_changes_of_stage_one(first: Path, base: Path, records: Path):
    run, stage, _, _ = prepared(stage2_frame, records, first)
    planned = plan(run, stage)
    state, frozen, noted = start(planned, run, stage)
    before = leaves(first)
    assert any("/lora/" in path for path in flatten(state.params))
    for path, leaf in {**flatten(state.params), **frozen}.items():
        np.testing.assert_array_equal(leaf, before[path], err_msg=path)
    assert noted is not None and noted["path"] == str(base)  # stage 1 may be thrown away


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"train": "adapter"}, r"has low-rank changes \(LoRA\); expected --config\.train=lora "),
        ({"train": "full"}, r"has low-rank changes .+ or weights that they are merged into$"),
        ({"lora.alpha": 8.0}, r"--config\.lora\.rank=4 --config\.lora\.alpha=4\.0, or"),
        ({"lora.rank": 2}, r"--config\.lora\.rank=4 --config\.lora\.alpha=4\.0, or"),
        ({"lora.targets": "blocks/mlp/hidden"}, r"config\.lora\.targets: leave out denoiser/lora/"),
    ],
)
def test_changes_that_would_be_lost_or_scaled_are_refused(flags, said, first: Path, records: Path):
    run, stage, _, _ = prepared(stage2_frame, records, first, **flags)
    with pytest.raises(UsageError, match=said):
        start(plan(run, stage), run, stage)


def test_further_targets_begin_beside_those_of_stage_one(first: Path, records: Path):
    flags = {"lora.targets": "blocks/.*", "init_require": "denoiser/dit/.*"}
    run, stage, _, _ = prepared(stage2_frame, records, first, **flags)
    state, _, _ = start(plan(run, stage), run, stage)
    cross = state.params["denoiser"]["lora"]["blocks"]["cross_attention"]
    assert np.any(cross["key"]["up"]) and not np.any(cross["image_key"]["up"])


def test_a_run_from_before_there_were_low_rank_changes_is_continued(
    records: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its checkpoint says nothing of them."""
    run, stage, _, _ = prepared(stage1_clip, records, base, train="adapter")
    old = {name: value for name, value in stage.system["denoiser"].items() if name != "lora"}
    assert stage.system["denoiser"] == {**old, "lora": None}
    asked = []

    def restore(manager: Manager, trees: Any, check: Any) -> None:
        check({"stage": "clip", "system": {**stage.system, "denoiser": old}})
        asked.append(manager)

    monkeypatch.setattr(Manager, "restore", restore)
    manager = Manager(tmp_path)
    assert origin.restored(manager, plan(run, stage), stage, "clip", run.seed) is None
    manager.close()
    assert asked == [manager]
