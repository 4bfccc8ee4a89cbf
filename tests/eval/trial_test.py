"""The trials tell weights that work from weights that do not."""

import dataclasses
import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.eval import trial
from ft_jax.eval.instrument import Instrument, Measured
from ft_jax.models import lora, vae
from ft_jax.sampling.conditions import Encoders
from ft_jax.sampling.pipeline import Clip, Pipeline, Request
from tests.sampling import tiny_system

SYSTEM = tiny_system.system()
SPEECH = np.sin(np.arange(16_000) ** 1.3 * 0.01).astype(np.float32)


def test_blocks_agree_with_diffusers_and_disagree_where_one_side_is_changed(monkeypatch):
    params = tiny_system.denoiser_params(SYSTEM.denoiser)
    block, step = trial.against_diffusers(params, SYSTEM.denoiser, 2)
    assert block.verdict == step.verdict == "sound"
    assert block.name.startswith("one block") and "2 blocks" in step.name

    def build(params, cfg, build=trial.counterpart.build):
        audio = {**params["audio"], "value": {"kernel": 1.01 * params["audio"]["value"]["kernel"]}}
        return build({**params, "audio": audio}, cfg)

    monkeypatch.setattr(trial.counterpart, "build", build)
    again = trial._compared("again", *trial.first_blocks(params, SYSTEM.denoiser, 1))
    assert again.verdict == "fault"


def test_the_first_blocks_keep_their_low_rank_changes():
    """That the two agree: tests/parity/lora_parity_test.py."""
    low_rank = lora.Config(2, 3.0, "blocks/mlp/hidden")
    cfg = dataclasses.replace(SYSTEM.denoiser, lora=low_rank)
    params = tiny_system.denoiser_params(cfg)
    kept, reduced = trial.first_blocks(params, cfg, 1)
    assert reduced.lora == low_rank
    for name, leaf in kept["lora"]["blocks"]["mlp"]["hidden"].items():
        whole = params["lora"]["blocks"]["mlp"]["hidden"][name]
        np.testing.assert_array_equal(leaf, whole[:1])


@pytest.mark.parametrize("missing", ["torch", "diffusers"])
def test_without_pytorch_it_says_so(monkeypatch, missing):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda x: None if x == missing else find(x))
    checks = trial.against_diffusers({}, SYSTEM.denoiser, 2)
    found = [(check.verdict, check.finding) for check in checks]
    assert found == [("skipped", f"{missing} is not installed")] * 2


@pytest.mark.parametrize(("noise", "verdict"), [(0.02, "sound"), (0.6, "fault")])
def test_the_codec_is_judged_by_what_comes_back(monkeypatch, noise, verdict):
    monkeypatch.setattr(vae, "encode", lambda params, cfg, video: video)
    monkeypatch.setattr(
        vae,
        "decode",
        lambda params, cfg, x: x + noise * jnp.cos(jnp.arange(x.size)).reshape(x.shape),
    )
    trial._round_trip.clear_cache()
    check = trial.codec({}, SYSTEM, np.full((16, 16, 3), 127, np.uint8))
    trial._round_trip.clear_cache()
    psnr = 10 * np.log10(4 / (noise**2 / 2))
    assert check.verdict == verdict and f"PSNR {psnr:.1f} dB" in check.finding


class Features(Encoders):
    """Gives what it is told to."""

    def __init__(self, speech, silence):
        self.system, self.given = SYSTEM, {True: speech, False: silence}

    def speech(self, cuts):
        return self.given[bool(cuts.any())][None]


MOVING = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("speech", "silence", "verdict"),
    [
        (MOVING, np.zeros_like(MOVING), "sound"),
        (MOVING, MOVING, "fault"),
        (np.repeat(MOVING[:1], 20, axis=0), np.zeros_like(MOVING), "fault"),
        (MOVING * np.nan, np.zeros_like(MOVING), "fault"),
    ],
    ids=["speech", "deaf", "still", "not finite"],
)
def test_speech_has_to_move_the_features_and_to_be_unlike_silence(speech, silence, verdict):
    assert trial.speech(Features(speech, silence), SPEECH).verdict == verdict


class Eyes(Instrument):
    """Sees the brightness of a frame as lip opening."""

    def __init__(self, cfg, params):
        pass

    def measure(self, frames):
        bright = frames.mean((1, 2, 3))
        return Measured({"lip_opening": bright}, np.zeros((len(frames), 4)), bright)


def clips(monkeypatch, system, follows):
    """The checks of clips whose mouth follows the loudness at the guidances in `follows`."""
    loud = np.linspace(0, 1, 17)

    def generate(self, request):
        assert len(request.speech) == round(17 / system.fps * 16_000)
        track = loud if self.cfg.sampler.guidance.audio in follows else loud[::-1]
        frames = np.repeat(np.cumsum(track) * 10, 16 * 16 * 3).reshape(17, 16, 16, 3)
        return Clip(frames.astype(np.uint8), system.fps, 1)

    monkeypatch.setattr(Pipeline, "generate", generate)
    monkeypatch.setattr(trial, "Instrument", Eyes)
    monkeypatch.setattr(trial.clip, "loudness", lambda *_: loud)
    parts = tiny_system.params(SYSTEM)
    pipeline = Pipeline(system, parts)
    seen = {**parts, "landmarks": {}}
    monkeypatch.setattr(Pipeline, "__init__", keep)
    picture = np.zeros((16, 16, 3), np.uint8)
    return trial.clips(pipeline, seen, Request(picture, SPEECH))


def keep(self, system, params, cfg):
    """A pipeline that only knows what it was made of."""
    self.system, self.cfg = system, cfg


def test_lips_are_measured_at_both_guidances_with_a_margin(monkeypatch):
    silent, guided, effect = clips(monkeypatch, SYSTEM, follows=(5.0,))
    assert silent.name == "clip at audio guidance 0" and guided.name == "clip at audio guidance 5"
    # Eyes take brightness, the sum of the loudness, for opening.
    assert "r = 0.97 +- 0.52" in guided.finding and "100% of 17" in guided.finding
    assert silent.finding != guided.finding and effect.verdict == "sound"


def test_speech_that_changes_nothing_is_a_fault_unless_the_branch_is_zero(monkeypatch):
    assert clips(monkeypatch, SYSTEM, follows=(0.0, 5.0))[-1].verdict == "fault"
    monkeypatch.undo()
    params = tiny_system.params

    def deaf(system):
        made = params(system)
        made["denoiser"]["audio"]["value"]["kernel"] *= 0
        return made

    monkeypatch.setattr(tiny_system, "params", deaf)
    effect = clips(monkeypatch, SYSTEM, follows=(0.0, 5.0))[-1]
    assert effect.verdict == "note" and "speech branch is zero" in effect.finding


def test_without_a_landmark_network_it_says_what_is_measured_instead(monkeypatch):
    system = dataclasses.replace(SYSTEM, landmarks=None)
    silent, guided, _ = clips(monkeypatch, system, follows=(5.0,))
    assert "no landmark network" in guided.finding and "r = 0.99" in guided.finding
    assert "r = -1.00" in silent.finding
