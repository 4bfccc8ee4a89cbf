"""Speech: the official windows, locality of frame mode, masks that hold."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import models
from ft_jax.config import build
from ft_jax.convert import fantasytalking, table
from ft_jax.errors import UsageError
from ft_jax.kernels import attention
from ft_jax.models import audio, fantasy, term
from ft_jax.models.audio import frame_windows
from tests.models import small


def _ranges(windows):
    return [
        (int(row[keep].min()), int(row[keep].max())) for row, keep in zip(*windows, strict=True)
    ]


def test_windows_at_23_frames_a_second_are_the_published_ones():
    windows = frame_windows(175, 81)
    assert windows.index.shape == (21, 17)
    assert windows.mask.sum(1).tolist() == [6, 14, *[17] * 18, 14]
    centres = [0, 5, 14, 22, 31, 40, 48, 57, 65, 74, 83, 91, 100, 109, 117, 126, 135, 143, 152, 161]
    ranges = _ranges((windows.index, windows.mask))
    assert ranges[0] == (0, 5) and ranges[1] == (0, 13) and ranges[-1] == (161, 174)
    assert ranges[2:-1] == [(centre - 8, centre + 8) for centre in centres[2:]]


@pytest.mark.parametrize(("tokens", "width"), [(161, 15), (252, 21)], ids=["25 fps", "16 fps"])
def test_the_width_of_a_window_follows_the_frame_rate(tokens, width):
    assert frame_windows(tokens, 81).index.shape == (21, width)


@pytest.mark.parametrize("frames", [1, 5, 17, 33, 81, 201])
@pytest.mark.parametrize("tokens", [1, 2, 31, 71, 500])
def test_windows_of_any_length_stay_inside_and_are_contiguous(frames, tokens):
    windows = frame_windows(tokens, frames)
    assert windows.index.shape[0] == (frames + 3) // 4
    assert windows.index.min() >= 0 and windows.index.max() < tokens
    for row, keep in zip(windows.index, windows.mask, strict=True):
        assert (np.diff(row[keep]) == 1).all()


@pytest.mark.parametrize(("tokens", "frames", "name"), [(9, 8, "frames"), (0, 9, "audio_tokens")])
def test_impossible_lengths_are_errors(tokens, frames, name):
    with pytest.raises(UsageError, match=name):
        frame_windows(tokens, frames)


def _seen(windows, tokens):
    """Which tokens each latent frame may see, [t a]."""
    seen = np.zeros((len(windows.index), tokens), bool)
    for frame, (row, keep) in enumerate(zip(windows.index, windows.mask, strict=True)):
        seen[frame, row[keep]] = True
    return seen


def _keys(seed, samples, tokens, frames, windows_tokens):
    parts = jax.random.split(jax.random.key(seed), 3)
    query = jax.random.normal(parts[0], (samples, tokens * frames, 2, 4))
    key, value = (jax.random.normal(part, (samples, windows_tokens, 2, 4)) for part in parts[1:])
    return query, term.Keys(key, value)


def test_frame_mode_is_attention_over_the_tokens_of_the_own_window():
    query, keys = _keys(0, 2, 6, 5, 31)
    windows = frame_windows(31, 17)
    own = _seen(windows, 31)[np.arange(query.shape[1]) % 5]
    mask = jnp.broadcast_to(own, (2, 1, *own.shape))
    expected = attention(query, keys.key, keys.value, mask)
    np.testing.assert_allclose(term.attend(query, keys, windows), expected, atol=1e-6)


def test_an_empty_window_gives_zero_and_finite_gradients():
    query, keys = _keys(0, 2, 6, 5, 31)
    windows = frame_windows(31, 17)
    mask = windows.mask.copy()
    mask[3] = False
    empty = windows.replace(mask=mask)
    out, grad = jax.value_and_grad(
        lambda keys: jnp.sin(term.attend(query, keys, empty)).sum(), allow_int=True
    )(keys)
    assert np.isfinite(out) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grad))
    out = np.asarray(term.attend(query, keys, empty)).reshape(2, 6, 5, 2, 4)
    assert not out[:, :, 3].any() and out[:, :, [0, 1, 2, 4]].all()


def test_window_t_moves_only_latent_frame_t():
    # One block: after its cross-attention nothing mixes the frames any more.
    cfg = small.with_dit(layers=1)
    params = small.params(cfg)
    latents, sigma, conditions = small.inputs(1)
    windows = frame_windows(small.TOKENS, small.FRAMES)

    @jax.jit
    def influence(windows):
        def frame_sums(features):
            given = conditions.replace(audio_features=features)
            out = fantasy.apply(params, cfg, latents, sigma, given, windows)
            return jnp.sin(out).sum((0, 2, 3, 4))

        return jnp.abs(jax.jacrev(frame_sums)(conditions.audio_features)).max((1, 3))

    seen = _seen(windows, small.TOKENS)
    np.testing.assert_array_equal(np.asarray(influence(windows)) > 0, seen)
    assert not seen.all()
    assert (np.asarray(influence(None)) > 0).all()


def test_what_padding_points_at_has_no_influence():
    windows = frame_windows(small.TOKENS, small.FRAMES)
    moved = windows.replace(index=np.where(windows.mask, windows.index, small.TOKENS - 1))
    assert (moved.index != windows.index).any()
    given = small.inputs()
    np.testing.assert_array_equal(
        small.apply(small.params(), small.CONFIG, *given, windows),
        small.apply(small.params(), small.CONFIG, *given, moved),
    )


def _hearing(**changes):
    return dataclasses.replace(small.CONFIG.audio, **changes)


def test_each_mode_hears_what_the_config_says():
    cfg, lengths = small.CONFIG.audio, (small.TOKENS, small.FRAMES)
    own = frame_windows(*lengths)
    assert audio.windows(cfg, "clip", *lengths) is None
    jax.tree.map(np.testing.assert_array_equal, audio.windows(cfg, "frame", *lengths), own)
    joined = audio.windows(_hearing(clip="windows"), "clip", *lengths)
    assert (joined.index == own.index.ravel()).all() and (joined.mask == own.mask.ravel()).all()
    assert joined.index.shape == (5, own.index.size)


def test_tokens_of_two_windows_count_twice_in_the_joined_form():
    query, keys = _keys(1, 2, 6, 5, small.TOKENS)
    joined = audio.windows(_hearing(clip="windows"), "clip", small.TOKENS, small.FRAMES)
    times = _counts(frame_windows(small.TOKENS, small.FRAMES), small.TOKENS)
    assert times.max() > 1
    several = np.repeat(np.arange(small.TOKENS), times)
    expected = attention(query, keys.key[:, several], keys.value[:, several])
    np.testing.assert_allclose(term.attend(query, keys, joined), expected, atol=1e-6)


def _counts(windows, tokens):
    return np.bincount(windows.index[windows.mask], minlength=tokens)


def test_heard_padding_draws_attention_to_zeros():
    query, keys = _keys(2, 2, 6, 5, small.TOKENS)
    plain = frame_windows(small.TOKENS, small.FRAMES)
    heard = audio.windows(_hearing(padding="heard"), "frame", small.TOKENS, small.FRAMES)
    masked = np.asarray(term.attend(query, keys, plain)).reshape(2, 6, 5, 2, 4)
    padded = np.asarray(term.attend(query, keys, heard)).reshape(2, 6, 5, 2, 4)
    for frame, mask in enumerate(plain.mask):
        own = plain.index[frame][mask]
        rows = query.reshape(2, 6, 5, 2, 4)[:, :, frame]
        zeros = jnp.zeros((2, int((~mask).sum()), 2, 4))
        key, value = (jnp.concatenate([x[:, own], zeros], 1) for x in (keys.key, keys.value))
        np.testing.assert_allclose(padded[:, :, frame], attention(rows, key, value), atol=1e-6)
        assert np.allclose(padded[:, :, frame], masked[:, :, frame], atol=1e-6) == mask.all()
    assert not plain.mask.all()


def test_released_sizes_have_exactly_the_released_tensors():
    cfg = build(fantasy.Config, models.get_config("wan_14b").denoiser)
    tree = {"audio": fantasy.abstract_params(cfg)["audio"]}
    shapes = table.shapes(fantasytalking.OFFICIAL, tree)
    assert len(shapes) == 83
    assert sum(math.prod(shape) for shape in shapes.values()) == 840_437_760
    prefix = "audio_processor.blocks.39.cross_attn.processor"
    assert shapes[f"{prefix}.k_proj.weight"] == shapes[f"{prefix}.v_proj.weight"] == (5120, 2048)
    assert shapes["proj_model.proj.weight"] == (2048, 768)
    assert "blocks.0.cross_attn.k_proj.weight" in table.shapes(fantasytalking.COMFYUI, tree)


def test_names_go_there_and_back():
    tree = {"audio": small.params()["audio"]}
    for naming in (fantasytalking.OFFICIAL, fantasytalking.COMFYUI):
        back = table.to_params(naming, table.to_torch(naming, tree), tree)
        jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_a_model_without_the_branch_has_no_parameters_for_it():
    cfg = dataclasses.replace(small.CONFIG, audio=None)
    assert set(fantasy.abstract_params(cfg)) == {"dit", "identity", "motion"}
    assert audio.Config().token_width == 2048
