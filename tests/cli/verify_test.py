"""The command: exit code, page and table; what runs inside is tested in tests/eval."""

import importlib
import sys

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from ft_jax.checkpoints import bundle
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.eval import trial
from ft_jax.eval.findings import Check
from ft_jax.lazy import Lazy
from tests.sampling import tiny_system


@pytest.fixture(scope="module")
def verify():
    """The command; flags that another command has defined in this process step aside for it."""
    others = {name: flags.FLAGS[name] for name in ("weights", "image", "audio", "out", "blocks",
              "steps") if name in flags.FLAGS}  # fmt: skip
    for name in others:
        delattr(flags.FLAGS, name)
    module = importlib.import_module("ft_jax.cli.verify")
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["verify"])
    yield module
    for flag in flags.FLAGS.get_flags_for_module("ft_jax.cli.verify"):
        delattr(flags.FLAGS, flag.name)
    for name, flag in others.items():
        flags.FLAGS[name] = flag
    del sys.modules["ft_jax.cli.verify"]


@pytest.fixture
def run(verify, tmp_path, capsys):
    def start(**given):
        given = {"out": str(tmp_path / "page.md"), **given}
        with flagsaver.flagsaver(**given):
            return verify.main([]), (tmp_path / "page.md").read_text(), capsys.readouterr().out

    return start


@pytest.fixture
def weights(tmp_path):
    """A function that writes the tiny system, with a change made to its parts."""

    def write(change=lambda parts: None):
        made = tiny_system.system()
        parts = tiny_system.params(made)
        change(parts)
        bundle.save(tmp_path / "tiny.safetensors", to_dict(made), parts)
        return str(tmp_path / "tiny.safetensors")

    return write


def test_sound_weights_that_work_end_with_zero(verify, run, weights, monkeypatch):
    monkeypatch.setattr(verify, "trials", lambda *_: [Check("a trial", "sound", "works")])
    code, page, printed = run(weights=weights())
    assert code == 0 and "**sound**" in page and "| a trial | sound | works |" in page
    assert "ok       a trial" in printed and printed.endswith("page.md: sound\n")


def test_imported_weights_are_run_as_a_bundle_is(verify, monkeypatch):
    made = tiny_system.system()
    parts = tiny_system.params(made)
    lazy = jax.tree.map(lambda x: Lazy(x.shape, x.dtype, lambda: np.array(x)), parts)
    monkeypatch.setattr(trial, "clips", lambda pipeline, parts, request: [])
    compared = []

    def against_diffusers(params, cfg, blocks):
        compared.append(trial.first_blocks(params, cfg, 1)[0])
        return []

    monkeypatch.setattr(trial, "against_diffusers", against_diffusers)
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    recording = np.random.default_rng(1).standard_normal(16_000).astype(np.float32)
    with flagsaver.flagsaver(steps=2):
        found = [verify.trials(made, given, picture, recording) for given in (parts, lazy)]
    assert found[0] == found[1] and len(found[0]) == 2
    jax.tree.map(np.testing.assert_array_equal, *compared)


def test_a_failed_trial_ends_with_one(verify, run, weights, monkeypatch):
    monkeypatch.setattr(verify, "trials", lambda *_: [Check("a trial", "fault", "fails")])
    code, page, printed = run(weights=weights())
    assert code == 1 and "**NOT SOUND**" in page and "FAULT    a trial" in printed


def test_unsound_weights_are_named_and_nothing_is_run(verify, run, weights, monkeypatch):
    monkeypatch.setattr(verify, "trials", lambda *_: pytest.fail("was run"))

    def scale(parts):
        parts["codec"]["decoder"]["stem"]["kernel"] *= 1000

    code, page, printed = run(weights=weights(scale))
    assert code == 1 and "codec/decoder/stem/kernel" in page
    assert "codec/decoder/stem/kernel" in printed and "skipped  codec, speech" in printed


def test_wrong_input_is_named_before_anything_is_read(run, tmp_path):
    for given, culprit in (
        ({"out": "page.html"}, "page.html"),
        ({"image": str(tmp_path / "no.png")}, "no.png"),
        ({"audio": str(tmp_path / "no.wav")}, "no.wav"),
        ({"weights": str(tmp_path / "none")}, "none"),
    ):
        with pytest.raises(UsageError, match=culprit):
            run(**given)


def test_the_default_inputs_are_of_the_drawn_world(verify):
    picture, recording = verify.inputs(None, None)
    assert picture.ndim == 3 and recording.ndim == 1 and len(recording) > 16_000


def test_every_trial_is_made_of_weights_that_can_generate(verify, monkeypatch):
    from ft_jax.eval import trial

    for name in ("codec", "speech"):
        monkeypatch.setattr(trial, name, lambda *_, name=name: Check(name, "sound", ""))
    for name in ("against_diffusers", "clips"):
        monkeypatch.setattr(trial, name, lambda *_, name=name: [Check(name, "sound", "")])
    made = tiny_system.system()
    with flagsaver.flagsaver(steps=2):
        found = verify.trials(made, tiny_system.params(made), *verify.inputs(None, None))
    assert [check.name for check in found] == ["against_diffusers", "codec", "speech", "clips"]
