"""From a picture and speech to frames: lengths, what each input changes, one clip or many."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest

from configs import sample
from ft_jax.checkpoints import bundle, weights
from ft_jax.checkpoints.tree import flatten
from ft_jax.config import build, to_dict
from ft_jax.errors import UsageError
from ft_jax.lazy import Lazy
from ft_jax.models.system import Sampling, System
from ft_jax.models.vae import Pieces
from ft_jax.nn import quantised
from ft_jax.sampling import sampler
from ft_jax.sampling.conditions import Encoders
from ft_jax.sampling.pipeline import Config, Pipeline, Request, settled
from ft_jax.sampling.portrait import NO_FACE
from tests.sampling import tiny_system

LONG = 1.3  # seconds; three windows


def difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("seconds", [0.1, 0.31, 17 / 23, 0.75, LONG])
def test_the_frames_last_as_long_as_the_speech_to_half_a_frame(
    pipeline: Pipeline, picture: np.ndarray, speech: Any, seconds: float
) -> None:
    clip = pipeline.generate(Request(picture, speech(seconds)))
    assert abs(len(clip.frames) / clip.fps - seconds) <= 0.5 / clip.fps + 1e-9
    assert clip.frames.shape[1:] == (16, 16, 3)
    assert (clip.windows > 1) == (len(clip.frames) > 17)


def test_a_batch_gives_what_single_runs_give(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    requests = [
        Request(picture, speech(LONG, 1), "one", seed=5),
        Request(picture[::-1].copy(), speech(0.5, 2), "two", seed=6, body=0.9),
        Request(picture, speech(LONG, 3), "three", seed=7),
    ]
    together = pipeline.generate_batch(requests)
    for request, made in zip(requests, together, strict=True):
        alone = pipeline.generate(request)
        assert alone.frames.shape == made.frames.shape
        assert difference(alone.frames, made.frames) <= 1


def test_what_no_network_reads_stays_where_it_is(system: System, params: dict[str, Any]) -> None:
    def read() -> np.ndarray:
        raise AssertionError("was read")

    carried = {"clip": {"log_scale": Lazy((), np.dtype(np.float32), read)}}
    assert "rest" not in Pipeline(system, {**params, "rest": carried})._params


CHANGES: dict[str, dict[str, Any]] = {
    "seed": {"seed": 1},
    "prompt": {"prompt": "else"},
    "expression": {"expression": 1.0},
    "body": {"body": 0.0},
}


@pytest.mark.parametrize("hearing", ["frame", "clip"])
def test_what_a_frame_hears_is_a_setting(
    pipeline: Pipeline,
    params: dict[str, Any],
    picture: np.ndarray,
    speech: Any,
    hearing: Literal["frame", "clip"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    sample_ = sampler.sample

    def spy(*arguments: Any) -> Any:
        asked.append(arguments[3].windows)
        return sample_(*arguments)

    monkeypatch.setattr(sampler, "sample", spy)
    chosen = dataclasses.replace(pipeline.cfg, hearing=hearing)
    Pipeline(pipeline.system, params, chosen).generate(Request(picture, speech(0.5)))
    assert [windows is None for windows in asked] == [hearing == "clip"]


def test_an_unknown_way_of_hearing_is_refused() -> None:
    with pytest.raises(UsageError, match="hearing: got 'word'"):
        build(Config, {"hearing": "word"})


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_a_request_reaches_the_frames(
    pipeline: Pipeline, picture: np.ndarray, speech: Any, name: str
) -> None:
    request = Request(picture, speech(0.5), "a prompt")
    plain = pipeline.generate(request).frames
    assert difference(plain, pipeline.generate(request).frames) == 0
    changed = dataclasses.replace(request, **CHANGES[name])
    assert difference(plain, pipeline.generate(changed).frames) > 0


def test_speech_and_branches_reach_the_frames_and_can_be_switched_off(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    one, other = (Request(picture, speech(0.7, seed)) for seed in (1, 2))
    assert difference(pipeline.generate(one).frames, pipeline.generate(other).frames) > 0
    deaf = pipeline.without("audio")
    assert difference(deaf.generate(one).frames, deaf.generate(other).frames) == 0
    still = pipeline.without("motion")
    moved = dataclasses.replace(one, body=1.0)
    assert difference(still.generate(one).frames, still.generate(moved).frames) == 0
    with pytest.raises(UsageError, match="no such branch"):
        pipeline.without("adio")


def test_later_speech_does_not_change_the_first_window_much_of_a_long_clip(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    long = speech(LONG)
    changed = long.copy()
    changed[16_000:] = speech(LONG, 9)[16_000:]
    one, other = (pipeline.generate(Request(picture, each)).frames for each in (long, changed))
    before, after = (
        np.abs(a.astype(int) - b).mean() for a, b in ((one[:8], other[:8]), (one[-8:], other[-8:]))
    )
    assert before < 0.5 * after


def test_a_picture_without_a_face_is_animated_and_said_so(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    assert pipeline.generate(Request(picture, speech(0.2))).notes == (NO_FACE,)


def test_the_first_frame_is_the_portrait_as_the_codec_shows_it(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    firsts = [pipeline.generate(Request(picture, speech(0.5, s), seed=s)).frames[0] for s in (1, 2)]
    assert difference(*firsts) == 0
    other = pipeline.generate(Request(picture[:, ::-1].copy(), speech(0.5, 1))).frames[0]
    assert difference(firsts[0], other) > 0


def test_progress_counts_every_step_of_every_batch(
    pipeline: Pipeline, picture: np.ndarray, speech: Any
) -> None:
    seen: list[tuple[int, int]] = []
    requests = [Request(picture, speech(0.5)), Request(picture, speech(LONG))]
    pipeline.generate_batch(requests, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_a_bundle_gives_the_same_clips(
    system: Any, params: Any, pipeline: Pipeline, picture: np.ndarray, speech: Any, tmp_path: Any
) -> None:
    path = tmp_path / "small.safetensors"
    bundle.save(path, to_dict(system), params)
    loaded = Pipeline.load(path, pipeline.cfg)
    assert loaded.system == system
    request = Request(picture, speech(0.3))
    # Weights are rounded to bfloat16 in the file.
    assert difference(loaded.generate(request).frames, pipeline.generate(request).frames) < 64


def test_imported_weights_give_the_same_clips(
    system: Any, params: Any, pipeline: Pipeline, picture: np.ndarray, speech: Any, tmp_path: Any
) -> None:
    leaves = {
        path: Lazy(leaf.shape, leaf.dtype, lambda leaf=leaf: leaf)
        for path, leaf in flatten(params).items()
    }
    weights.save(tmp_path / "weights", to_dict(system), leaves)
    loaded = Pipeline.load(tmp_path / "weights", pipeline.cfg)
    assert loaded.system == system
    request = Request(picture, speech(0.3))
    assert difference(loaded.generate(request).frames, pipeline.generate(request).frames) == 0


def test_encoders_of_branches_that_do_not_exist_are_not_needed(system: Any, params: Any) -> None:
    denoiser = dataclasses.replace(system.denoiser, identity=None)
    reduced = dataclasses.replace(system, denoiser=denoiser)
    Pipeline(reduced, {k: v for k, v in params.items() if k != "face"}, Config())
    with pytest.raises(UsageError, match="no part 'face'; expected denoiser, codec, text, image, "):
        Pipeline(system, {k: v for k, v in params.items() if k != "face"}, Config())


def test_weights_that_are_not_there_are_named(tmp_path: Any, system: Any, params: Any) -> None:
    with pytest.raises(UsageError, match=r"none\.safetensors: no such file"):
        Pipeline.load(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="no part 'speech'"):
        Pipeline(system, {k: v for k, v in params.items() if k != "speech"}, Config())


@pytest.mark.parametrize(
    ("setting", "words"),
    [({"expression": 1.2}, "expression"), ({"body": (0.1, -1.0)}, "body"), ({"seed": -1}, "seed")],
)
def test_settings_out_of_range_are_refused(
    picture: np.ndarray, speech: Any, setting: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=f"{words}: got .*; expected"):
        Request(picture, speech(0.5), **setting)


def test_an_empty_prompt_is_the_dropped_prompt_of_training(
    system: System, params: dict[str, Any]
) -> None:
    rows = Encoders(system, params).prompts(["", "a b", "  "])
    assert rows.shape == (3, system.denoiser.dit.text_tokens, system.text.width)
    assert not rows[0].any() and not rows[2].any()
    assert rows[1, :4].any(axis=1).all() and not rows[1, 4:].any()


def test_encoders_give_a_row_the_same_result_alone_and_among_others(
    system: System, params: dict[str, Any], speech: Any
) -> None:
    encoders = Encoders(system, params)
    cuts = np.stack([speech(0.5, seed) for seed in range(11)])
    together = encoders.speech(cuts)
    assert together.shape[0] == 11
    np.testing.assert_allclose(together[9], encoders.speech(cuts[9:10])[0], rtol=1e-4, atol=1e-5)


def test_the_settings_of_the_command_are_those_of_the_program() -> None:
    made = tiny_system.system()
    assert settled(made, sample.get_config().to_dict()) == settled(made, None)
    fast = settled(made, sample.get_config("fast").to_dict())
    assert fast.sampler.steps < settled(made, None).sampler.steps


def test_what_settings_leave_open_is_what_the_weights_are_best_with() -> None:
    made = dataclasses.replace(tiny_system.system(), sampling=Sampling(2.0, 1.5, 3.0))
    found = settled(made, {"sampler": {"shift": None, "guidance": {"audio": 6.0}}}).sampler
    assert (found.shift, found.guidance.text, found.guidance.audio) == (2.0, 1.5, 6.0)
    assert settled(made, Config()) == Config()
    with pytest.raises(UsageError, match="steeps"):
        settled(made, {"sampler": {"steeps": 3}})


def test_how_much_is_decoded_at_once_is_a_setting(system: System, params: dict[str, Any]) -> None:
    latents = np.random.default_rng(0).standard_normal((1, *system.latent_shape))
    latents = latents.astype(np.float32)
    tiles = {"rule": "average", "size": (1, 2), "stride": (1, 1)}
    made = {}
    for name, codec in (("whole", {}), ("parts", {"chunk": 2}), ("tiles", {"tiles": tiles})):
        given = sample.get_config().to_dict()
        given["codec"]["chunk"] = codec.get("chunk", 0)
        given["codec"]["tiles"].update(codec.get("tiles", {}))
        encoders = Encoders(system, params, settled(system, given).codec)
        made[name] = encoders.decode(latents)
    assert difference(made["whole"], made["parts"]) <= 1
    assert difference(made["whole"], made["tiles"]) > 1


def test_pictures_are_encoded_alike_in_parts(
    system: System, params: dict[str, Any], picture: np.ndarray
) -> None:
    pictures = np.ascontiguousarray(picture[None, : system.height, : system.width])
    whole, parts = (
        Encoders(system, params, Pieces(chunk)).pictures(pictures)[0] for chunk in (0, 2)
    )
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_a_matrix_of_eight_bits_stays_one() -> None:
    """A preview is given the base as the run has it."""
    made = tiny_system.system()
    parts = tiny_system.params(made)
    hidden = parts["denoiser"]["dit"]["blocks"]["mlp"]["hidden"]
    hidden["kernel"] = quantised.quantise(jnp.asarray(hidden["kernel"]))
    held = Pipeline(made, parts)._params["denoiser"]["dit"]["blocks"]["mlp"]["hidden"]
    assert (held["kernel"].qvalue.dtype, held["kernel"].scale.dtype) == ("int8", "float32")
    np.testing.assert_array_equal(held["kernel"].qvalue, hidden["kernel"].qvalue)
    assert held["bias"].dtype == "float32"
