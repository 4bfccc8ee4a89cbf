"""The text encoder against transformers' UMT5EncoderModel on random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import ByT5Tokenizer, T5Tokenizer, UMT5Config, UMT5EncoderModel

from ft_jax.convert import table, umt5
from ft_jax.models import text

CFG = text.Config("bytes", rows=96, width=24, layers=2, heads=3, head_width=8, mlp_width=40)


@functools.cache
def both():
    torch.manual_seed(0)
    model = UMT5EncoderModel(
        UMT5Config(
            vocab_size=CFG.rows,
            d_model=CFG.width,
            d_kv=CFG.head_width,
            d_ff=CFG.mlp_width,
            num_layers=CFG.layers,
            num_heads=CFG.heads,
        )
    ).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape))
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    abstract = jax.eval_shape(functools.partial(text.init, cfg=CFG), jax.random.key(0))
    params = table.to_params(umt5.HUGGING_FACE, tensors, abstract)
    return model, jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize("length", [7, 300])
def test_rows_of_the_prompt_equal_transformers(length):
    model, params = both()
    ids = np.random.default_rng(0).integers(2, CFG.rows, size=(2, length)).astype(np.int32)
    mask = np.arange(length)[None] < np.array([[length], [5]])
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(ids).long(), attention_mask=torch.from_numpy(mask).long()
        ).last_hidden_state.numpy()
    ours = jax.jit(text.encode, static_argnums=1)(params, CFG, jnp.asarray(ids), jnp.asarray(mask))
    np.testing.assert_allclose(ours, theirs * mask[..., None], atol=2e-5)


def test_byte_ids_equal_the_byt5_tokenizer():
    prompts = ["A drawn person is talking.", "Ünïcode &amp;amp; \n  spaces", ""]
    ids, mask = text.tokenize(CFG, prompts, 40)
    tokenizer = ByT5Tokenizer()
    for prompt, row, kept in zip(prompts, ids, mask, strict=True):
        assert row[kept].tolist() == tokenizer(text.clean(prompt)).input_ids


@pytest.mark.parametrize("length", [4, 24])
def test_ids_of_a_folder_are_those_its_tokenizer_gives(tmp_path, length):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581", -2.0), ("\u2581per", -1.0), ("son", -1.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz."]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    tokenizer.save_pretrained(tmp_path)
    prompts = ["a person &amp;  talks.", "", "person"]
    theirs = tokenizer(
        [text.clean(prompt) for prompt in prompts],
        padding="max_length",
        truncation=True,
        max_length=length,
        return_tensors="np",
    )
    ids, mask = text.tokenize(text.Config(str(tmp_path)), prompts, length)
    assert mask.sum(1).max() > 3
    np.testing.assert_array_equal(ids, theirs.input_ids)
    np.testing.assert_array_equal(mask, theirs.attention_mask)
