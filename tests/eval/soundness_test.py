"""Sound weights pass; a NaN, a swapped shape, a scaled tensor are each found and named."""

import functools

import numpy as np
import pytest

from ft_jax.checkpoints.tree import flatten, unflatten
from ft_jax.eval import findings, soundness
from ft_jax.eval.findings import Check
from tests.sampling import tiny_system

KERNEL = "denoiser/dit/blocks/mlp/hidden/kernel"


@functools.cache
def tiny():
    made = tiny_system.system()
    return made, flatten(tiny_system.params(made))


def parts(**changes):
    """The tiny system's weights with some leaves changed; None takes a leaf away."""
    leaves = tiny()[1] | changes
    return unflatten({path: x for path, x in leaves.items() if x is not None})


def misshapen(**changes):
    found = soundness.shapes(tiny()[0], parts(**changes))
    return [check for check in found if check.verdict == "fault"]


def insane(**changes):
    found = soundness.statistics(parts(**changes))
    return [check for check in found if check.verdict == "fault"]


def test_sound_weights_pass_and_every_part_is_looked_at():
    made = tiny()[0]
    found = soundness.shapes(made, parts()) + soundness.statistics(parts())
    assert findings.is_sound(found)
    names = {check.name.split(":")[0] for check in found}
    assert names >= {"codec", "denoiser", "face", "image", "landmarks", "speech", "text"}


def test_what_is_only_carried_through_is_not_looked_at():
    carried = {**parts(), "rest": {"clip": {"log_scale": np.array(np.nan)}}}
    made = tiny()[0]
    assert findings.is_sound(soundness.shapes(made, carried) + soundness.statistics(carried))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_found_and_named(bad):
    broken = tiny()[1][KERNEL].copy()
    broken[1, 2, 3] = bad
    (fault,) = insane(**{KERNEL: broken})
    assert fault.name == "denoiser: kernel"
    assert fault.finding == f"{KERNEL}: 1 of {broken.size} values are not finite"


def test_a_swapped_shape_is_found_and_named():
    (fault,) = misshapen(**{KERNEL: tiny()[1][KERNEL].swapaxes(1, 2)})
    assert fault.name == "denoiser: paths and shapes"
    assert fault.finding == f"shape: {KERNEL} [2, 32, 24] instead of [2, 24, 32]"


def test_missing_and_unexpected_tensors_are_all_named():
    (fault,) = misshapen(**{KERNEL: None, "denoiser/odd/bias": np.ones(1, np.float32)})
    assert fault.details == (f"missing: {KERNEL}", "unexpected: denoiser/odd/bias")
    assert fault.finding.endswith(", and 1 more")
    gone = [fault.name for fault in misshapen(**dict.fromkeys(whole("speech")))]
    assert gone == ["speech: paths and shapes"]


def whole(part):
    return [path for path in tiny()[1] if path.startswith(f"{part}/")]


@pytest.mark.parametrize(
    ("path", "factor"), [(KERNEL, 1e3), (KERNEL, 1e-3), ("speech/norm/scale", 1e3)]
)
def test_a_scaled_tensor_is_found_and_named(path, factor):
    (fault,) = insane(**{path: tiny()[1][path] * np.float32(factor)})
    assert fault.name == f"{path.split('/')[0]}: {path.split('/')[-1]}"
    assert fault.finding.startswith(f"{path}")


@pytest.mark.parametrize(
    ("path", "strength", "verdict"),
    [
        # The largest kernels of a T5 of the released width, by what is published of a small one.
        (KERNEL, 75, "sound"),
        (KERNEL, 120, "warning"),
        (KERNEL, 510, "fault"),
        (KERNEL, 0.015, "warning"),
        (KERNEL, 0.0035, "fault"),
        ("speech/norm/scale", 300, "warning"),
        ("speech/norm/scale", 510, "fault"),
        ("speech/norm/bias", 60, "warning"),
        ("speech/norm/bias", 260, "fault"),
        ("image/positions/table", 150, "warning"),
        ("image/positions/table", 1e-5, "fault"),
    ],
)
def test_outside_of_a_range_is_a_warning_and_far_outside_a_fault(path, strength, verdict):
    whole = tiny()[1][path].astype(np.float64)
    blocks = whole if path == KERNEL else whole[None]
    own = np.array([*soundness.strengths(path, whole).values()])
    scaled = blocks * (strength / own).reshape(-1, *[1] * (blocks.ndim - 1))
    found = soundness.statistics(parts(**{path: scaled.reshape(whole.shape).astype(np.float32)}))
    part, kind = path.split("/")[0], path.rsplit("/", 1)[-1]
    (check,) = [check for check in found if check.name == f"{part}: {kind}"]
    assert check.verdict == verdict
    assert findings.is_sound(found) == (verdict != "fault")
    if verdict != "sound":
        assert check.finding.startswith(path) and f"strength {strength:g}; " in check.finding


def test_one_scaled_block_of_a_stack_is_named():
    broken = tiny()[1][KERNEL].copy()
    broken[1] *= 1000
    (fault,) = insane(**{KERNEL: broken})
    assert fault.details == (fault.finding,) and f"{KERNEL} block 1: " in fault.finding


def test_zero_branches_are_reported_and_no_fault_but_other_zero_kernels_are():
    zero = {
        path: np.zeros_like(x)
        for path, x in tiny()[1].items()
        if path.startswith(("denoiser/audio/key", "denoiser/audio/value"))
    }
    found = soundness.statistics(parts(**zero))
    assert findings.is_sound(found)
    (branch,) = [check for check in found if check.name == "audio branch"]
    assert branch.verdict == "note" and branch.finding.startswith("zero: plain Wan")
    assert set(branch.details) == set(zero)
    assert insane(**{KERNEL: np.zeros_like(tiny()[1][KERNEL])})


def test_the_strength_of_a_kernel_does_not_depend_on_its_width():
    draw = np.random.default_rng(0).standard_normal
    for inputs in (16, 400):
        kernel = draw((3, 5, inputs, 30)) * (15 * inputs) ** -0.5
        ((path, strength),) = soundness.strengths("codec/stem/kernel", kernel).items()
        assert path == "codec/stem/kernel" and strength == pytest.approx(1, abs=0.05)


def test_low_rank_changes_are_measured_block_by_block_and_may_be_zero():
    draw, path = np.random.default_rng(0).standard_normal, "denoiser/lora/blocks/mlp/hidden"
    down = draw((2, 400, 8)).astype(np.float32) * 20
    found = soundness.strengths(f"{path}/down", down / 400)
    assert list(found) == [f"{path}/down block {n}" for n in range(2)]
    assert list(found.values()) == pytest.approx([1, 1], abs=0.05)
    layer = {"down": down / 400, "up": np.zeros((2, 8, 5), np.float32)}
    tree = {"denoiser": {"lora": {"blocks": {"mlp": {"hidden": layer}}}}}
    assert findings.is_sound(soundness.statistics(tree))
    layer["down"] = down * 2  # a strength of 800
    assert not findings.is_sound(soundness.statistics(tree))


def test_the_page_holds_verdict_table_and_every_culprit():
    made = [Check("a", "sound", "fine"), Check("b", "fault", "x, and 1 more", ("x", "y"))]
    page = findings.page(made, {"weights": "w.safetensors"})
    assert "**NOT SOUND**" in page and "* weights: w.safetensors" in page
    assert "| b | fault | x, and 1 more |" in page and "```\nx\ny\n```" in page
    assert "**sound**" in findings.page(made[:1], {})
    assert findings.table(made) == "ok       a  fine\nFAULT    b  x, and 1 more"
    assert findings.table([Check("c", "warning", "odd")]) == "warning  c  odd"
