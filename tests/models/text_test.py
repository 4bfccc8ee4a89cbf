"""Prompts become rows: cleaning, lengths, padding, distances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.models import text

CFG = text.Config(
    "bytes", rows=384, width=16, layers=2, heads=2, head_width=8, mlp_width=24, projection=6
)


@functools.cache
def params():
    return jax.jit(text.init, static_argnums=1)(jax.random.key(0), CFG)


def encode(prompts, length, function=text.encode):
    ids, mask = text.tokenize(CFG, prompts, length)
    run = jax.jit(function, static_argnums=1)
    return np.asarray(run(params(), CFG, jnp.asarray(ids), jnp.asarray(mask))), mask


def test_padding_changes_no_row_and_is_zero_itself():
    short, _ = encode(["a person"], 9)
    long, mask = encode(["a person", "a person talks"], 24)
    np.testing.assert_allclose(long[0, :9], short[0], atol=1e-6)
    assert not long[~mask].any() and (np.abs(long[mask]).max(-1) > 0).all()


@pytest.mark.parametrize("lengths", [(3, 9), (60, 64), (65, 20), (250, 1), (300, 5)], ids=str)
def test_prompts_run_at_a_short_length_have_the_rows_they_have_at_the_whole(lengths):
    prompts = ["a" * (length - 1) for length in lengths]
    ids, mask = text.tokenize(CFG, prompts, 512)
    run = jax.jit(text.encode, static_argnums=1)
    short_ids, short_mask = text.shortened(ids, mask)
    assert short_ids.shape[1] == min(x for x in (64, 128, 256, 512) if x >= max(lengths))
    short = np.asarray(run(params(), CFG, jnp.asarray(short_ids), jnp.asarray(short_mask)))
    whole = np.asarray(run(params(), CFG, jnp.asarray(ids), jnp.asarray(mask)))
    np.testing.assert_allclose(short, whole[:, : short.shape[1]], atol=1e-6)
    assert not whole[:, short.shape[1] :].any()


def test_lengths_beyond_what_the_denoiser_takes_are_not_used():
    ids, mask = text.tokenize(CFG, ["a person", ""], 20)
    assert text.shortened(ids, mask)[0].shape == (2, 20)


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        (" a&amp;amp;b \n\t c ", "a&b c"),
        ("schÃ¶n", "schön"),  # UTF-8 that was read as Latin-1
        ("\u201csmiles\u201d \u2018now\u2019", "\"smiles\" 'now'"),
        ("\ufb01ne \uff21", "fine A"),
        ("你好\u3000&lt;b&gt;", "你好 <b>"),
        ("a\u00a0b\r\n", "a b"),
        ("", ""),
    ],
)
def test_prompts_are_cleaned_as_the_released_ones_were(prompt, cleaned):
    assert text.clean(prompt) == cleaned


def test_a_prompt_that_is_too_long_is_cut_but_ends():
    ids, mask = text.tokenize(CFG, ["abcdef", ""], 4)
    assert ids.tolist() == [[100, 101, 102, 1], [1, 0, 0, 0]]
    assert mask.tolist() == [[True] * 4, [True, False, False, False]]


def test_pooled_vectors_have_unit_length_and_ignore_padding():
    short, _ = encode(["a person"], 9, text.pooled)
    long, _ = encode(["a person"], 20, text.pooled)
    np.testing.assert_allclose(short, long, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(short, axis=-1), 1.0, atol=1e-5)


def test_distances_fall_into_the_published_buckets():
    buckets = text.relative_buckets(300, 32, 128)
    wanted = {-8: 8, -20: 10, -128: 15, -1: 1, 0: 0, 1: 17, 8: 24, 128: 31, 140: 31}
    assert {distance: buckets[140, 140 + distance] for distance in wanted} == wanted


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    cfg = text.Config(str(tmp_path))
    with pytest.raises(UsageError, match="no tokenizer"):
        text.tokenize(cfg, ["a"], 4)
