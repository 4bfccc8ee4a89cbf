import numpy as np
import pytest

from ft_jax.checkpoints import bundle, handover
from ft_jax.checkpoints.tree import fingerprint, flatten
from ft_jax.errors import UsageError

CLIP = {"fps": 23.0, "frames": 17, "height": 16, "width": 16}
SYSTEM = {"denoiser": {"width": 3}, "codec": {"mean": [0.0]}, **CLIP}


def source(path: str, base=None, **leaves: float) -> handover.Source:
    parts: dict = {}
    for name, value in leaves.items():
        part, _, leaf = name.partition("__")
        parts.setdefault(part, {})[leaf] = np.full((2,), value, np.float32)
    return handover.Source(path, SYSTEM, parts, base)


def wanted(*paths: str) -> dict:
    return {path: np.zeros((2,), np.float32) for path in paths}


def test_what_has_a_place_is_taken_and_the_rest_is_left():
    found = handover.fill(
        wanted("denoiser/dit", "denoiser/audio"), source("x", denoiser__dit=1.0, head__y=2.0), ""
    )
    assert list(found) == ["denoiser/dit"]


def test_a_required_leaf_that_is_missing_is_named():
    with pytest.raises(UsageError, match=r"x: no weights for denoiser/audio \(1 missing\)"):
        handover.fill(
            wanted("denoiser/dit", "denoiser/audio"), source("x", denoiser__dit=1.0), ".*"
        )


def test_a_stage_without_a_start_says_how_to_give_one():
    with pytest.raises(UsageError, match=r"--config\.init_from"):
        handover.fill(wanted("denoiser/dit"), None, "denoiser/dit")


def test_another_shape_is_refused():
    with pytest.raises(UsageError, match=r"denoiser/dit has shape \(2,\); expected \(3,\)"):
        handover.fill({"denoiser/dit": np.zeros(3)}, source("x", denoiser__dit=1.0), "")


def test_frozen_weights_are_named_by_path_and_content(tmp_path):
    path = tmp_path / "base.safetensors"
    given = source(str(path), denoiser__dit=1.0, codec__k=2.0)
    bundle.save(path, SYSTEM, given.parts)
    base = handover.describe(handover.read(path), ["denoiser/dit"])
    assert base["path"] == str(path)
    found = flatten(handover.frozen(base))
    assert list(found) == ["denoiser/dit"]
    bundle.save(path, SYSTEM, source("", denoiser__dit=1.5, codec__k=2.0).parts)
    with pytest.raises(UsageError, match="other weights than this run was started from"):
        handover.frozen(base)


def test_a_part_that_is_missing_is_named_with_the_weights():
    with pytest.raises(UsageError, match=r"^x: no part 'face'; expected one of \['codec'\]"):
        source("x", codec__k=1.0).part("face")


def test_a_base_behind_the_source_is_passed_through():
    base = {"path": "/base", "digest": "d", "paths": ["denoiser/dit"]}
    given = source("/stage1", base, denoiser__dit=1.0, denoiser__audio=2.0)
    assert handover.describe(given, ["denoiser/dit"]) == base
    own = handover.describe(given, ["denoiser/audio", "denoiser/dit"])
    assert own["path"] == "/stage1"


def test_later_sources_win_and_bring_their_settings():
    first = source("one", codec__k=1.0, denoiser__dit=1.0, head__h=3.0)
    second = handover.Source(
        "two", {**SYSTEM, "codec": {"mean": [5.0]}}, {"codec": {"k": np.zeros(2)}}, None
    )
    settings, parts = handover.assemble(SYSTEM, [first, second], ("denoiser", "codec"))
    assert settings["codec"] == {"mean": [5.0]} and settings["denoiser"] == SYSTEM["denoiser"]
    assert set(parts) == {"denoiser", "codec"} and parts["codec"]["k"].sum() == 0


def test_parts_of_clips_of_another_length_are_refused():
    other = handover.Source("two", {**SYSTEM, "frames": 33}, {"codec": {}}, None)
    with pytest.raises(UsageError, match="two: frames is 33; expected 17"):
        handover.assemble(SYSTEM, [other], ("codec",))


def test_sampling_is_the_system_s_whatever_a_source_was_made_with():
    made = handover.Source("two", {**SYSTEM, "sampling": {"shift": 9.0}}, {"codec": {}}, None)
    wanted = {**SYSTEM, "sampling": {"shift": 3.0}}
    assert handover.assemble(wanted, [made], ("codec",))[0]["sampling"] == {"shift": 3.0}


def test_encoders_of_its_own_tell_a_bundle_whose_data_it_may_meet():
    bundle_ = source("b.safetensors", denoiser__dit=1.0, codec__k=2.0)
    same = fingerprint(SYSTEM["codec"], bundle_.parts["codec"])
    handover.check_encoders(bundle_, {"codec": same, "speech": "unknown there"}, "data")
    with pytest.raises(UsageError, match=rf"data: codec other; b.safetensors .* {same}"):
        handover.check_encoders(bundle_, {"codec": "other"}, "data")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no run in this folder"):
        handover.read(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        handover.read(tmp_path / "nothing")


def test_a_folder_called_checkpoints_may_hold_other_weights(tmp_path):
    path = tmp_path / "checkpoints" / "base.safetensors"
    bundle.save(path, SYSTEM, source("", codec__k=2.0).parts)
    assert handover.read(path).part("codec")["k"][0] == 2.0
    with pytest.raises(UsageError, match=r"missing\.safetensors: no such file or folder"):
        handover.read(path.with_name("missing.safetensors"))
