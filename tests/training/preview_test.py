import dataclasses

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

from ft_jax.checkpoints import bundle
from ft_jax.config import to_dict
from ft_jax.errors import UsageError
from ft_jax.media import sound, video
from ft_jax.sampling import pipeline
from ft_jax.sharding import mesh as meshes
from ft_jax.sharding.constrain import partitioned
from ft_jax.training.preview import Config, Preview
from tests.sampling import tiny_system

OFF = Config(every=0, picture="", speech="", prompt="", weights="", hearing="clip")


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Config:
    """A picture, half a second of noise, and a bundle without a denoiser."""
    folder = tmp_path_factory.mktemp("inputs")
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 255, (40, 50, 3), np.uint8)).save(folder / "face.png")
    soundfile.write(folder / "speech.wav", 0.1 * draw.standard_normal(8000), 16_000)
    system = tiny_system.system()
    parts = tiny_system.params(system)
    del parts["denoiser"]
    bundle.save(folder / "encoders.safetensors", to_dict(system), parts)
    return dataclasses.replace(
        OFF,
        every=4,
        picture=str(folder / "face.png"),
        speech=str(folder / "speech.wav"),
        weights=str(folder / "encoders.safetensors"),
    )


def test_a_clip_with_sound_is_made_from_what_the_run_has_learned(asked, tmp_path, monkeypatch):
    seen = []
    generate = pipeline.Pipeline.generate
    monkeypatch.setattr(
        pipeline.Pipeline,
        "generate",
        lambda self, request: seen.append(self) or generate(self, request),
    )
    settled = pipeline.settled
    one_step = {"sampler": {"steps": 1}}
    monkeypatch.setattr(pipeline, "settled", lambda made, cfg: settled(made, {**cfg, **one_step}))
    system = tiny_system.system()
    learned = {"denoiser": tiny_system.denoiser_params(system.denoiser)}
    shown = Preview(asked, to_dict(system), tmp_path)
    with partitioned(meshes.make(meshes.Config(data=1)), "fsdp"):  # as within a run
        made = shown.show(jax.tree.map(jax.numpy.asarray, learned), 12)
    target = tmp_path / "previews" / "0000012.mp4"
    assert made == target
    clip, heard = video.read(target), sound.read(target)
    assert len(clip.frames) == round(0.5 * system.fps) and clip.frames.shape[1:3] == (256, 256)
    assert heard.seconds == pytest.approx(0.5, abs=0.05)
    assert seen[0].cfg.hearing == "clip"
    jax.tree.map(np.testing.assert_array_equal, seen[0]._params["denoiser"], learned["denoiser"])


def test_a_clip_that_cannot_be_made_is_a_warning(asked, tmp_path, monkeypatch, caplog):
    def full(self, request):
        raise OSError(f"no space left for {request.prompt!r}")

    monkeypatch.setattr(pipeline.Pipeline, "generate", full)
    system = tiny_system.system()
    learned = {"denoiser": tiny_system.denoiser_params(system.denoiser)}
    assert Preview(asked, to_dict(system), tmp_path).show(learned, 12) is None
    assert "no preview at step 12: no space left for ''" in caplog.text


def test_clips_are_due_every_so_many_steps_but_not_at_the_start(asked, tmp_path):
    system = to_dict(tiny_system.system())
    shown = Preview(asked, system, tmp_path)
    assert [step for step in range(10) if shown.due(step)] == [4, 8]
    assert not any(Preview(OFF, system, tmp_path).due(step) for step in range(10))


@pytest.mark.parametrize("name", ["picture", "speech"])
def test_an_input_that_is_not_given_is_named(asked, tmp_path, name):
    wrong = dataclasses.replace(asked, **{name: ""})
    with pytest.raises(UsageError, match=rf"watch\.preview\.{name}: not given"):
        Preview(wrong, to_dict(tiny_system.system()), tmp_path)


def test_a_stage_that_makes_no_clips_is_refused(asked, tmp_path):
    shown = Preview(asked, to_dict(tiny_system.system()), tmp_path)
    with pytest.raises(UsageError, match="makes no clips"):
        shown.show({"codec": {}}, 4)
