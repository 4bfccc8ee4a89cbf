"""SyncNet against a PyTorch network written here after the published table of layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from ft_jax.convert import syncnet as tables
from ft_jax.convert import table
from ft_jax.media.cepstrum import cepstrum
from ft_jax.models import lip_sync, syncnet

CFG = syncnet.Config(audio=(6, 8, 10, 8, 6, 12), lips=(8, 6, 10, 6, 8, 12), hidden=14, width=16)


def rows(number, inputs, outputs, *shape, pool=None):
    """Convolution, norm, ReLU and pooling of torch's `number` dimensions."""
    convolution, norm, pooling = {
        2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
    }[number]
    made = [convolution(inputs, outputs, *shape), norm(outputs), nn.ReLU()]
    return made + ([] if pool is None else [pooling(*pool)])


def audio_rows(a):
    return [
        *rows(2, 1, a[0], 3, 1, 1, pool=(1, 1)),
        *rows(2, a[0], a[1], 3, 1, 1, pool=(3, (1, 2))),
        *rows(2, a[1], a[2], 3, 1, 1),
        *rows(2, a[2], a[3], 3, 1, 1),
        *rows(2, a[3], a[4], 3, 1, 1, pool=(3, 2)),
        *rows(2, a[4], a[5], (5, 4)),
    ]


def lip_rows(c):
    flat, half, pad = (1, 3, 3), (1, 2, 2), (0, 1, 1)
    return [
        *rows(3, 3, c[0], (5, 7, 7), half, pool=(flat, half)),
        *rows(3, c[0], c[1], (1, 5, 5), half, pad, pool=(flat, half, pad)),
        *rows(3, c[1], c[2], flat, 1, pad),
        *rows(3, c[2], c[3], flat, 1, pad),
        *rows(3, c[3], c[4], flat, 1, pad, pool=(flat, half)),
        *rows(3, c[4], c[5], (1, 6, 6)),
    ]


def linear_rows(inputs, cfg):
    return [
        nn.Linear(inputs, cfg.hidden),
        nn.BatchNorm1d(cfg.hidden),
        nn.ReLU(),
        nn.Linear(cfg.hidden, cfg.width),
    ]


def network(cfg):
    parts = {
        "netcnnaud": audio_rows(cfg.audio),
        "netfcaud": linear_rows(cfg.audio[-1], cfg),
        "netcnnlip": lip_rows(cfg.lips),
        "netfclip": linear_rows(cfg.lips[-1], cfg),
    }
    return nn.ModuleDict({name: nn.Sequential(*part) for name, part in parts.items()}).eval()


def abstract(cfg):
    return jax.eval_shape(functools.partial(syncnet.init, cfg=cfg), jax.random.key(0))


@functools.cache
def both():
    torch.manual_seed(0)
    model = network(CFG)
    with torch.no_grad():
        for key, value in model.state_dict().items():  # stored means and variances too
            if value.ndim > 1:
                value.normal_(std=(2 / value[0].numel()) ** 0.5)
            elif value.dtype == torch.float32:
                value.normal_(std=0.2).add_(float(key.endswith(("weight", "running_var"))))
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    return model, tensors, table.to_params(tables.SYNCNET, tensors, abstract(CFG))


def theirs(model, stream, given):
    with torch.no_grad():
        hidden = model[f"netcnn{stream}"](torch.from_numpy(given))
        return model[f"netfc{stream}"](hidden.flatten(1)).numpy()


def test_vectors_of_sound_equal_the_torch_layout():
    model, _, params = both()
    cepstrum = np.random.default_rng(0).normal(size=(3, 13, 20)).astype(np.float32)
    found = jax.jit(syncnet.embed_audio, static_argnums=1)(params, CFG, jnp.asarray(cepstrum))
    expected = theirs(model, "aud", cepstrum[:, None])
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_vectors_of_lips_equal_the_torch_layout():
    model, _, params = both()
    lips = np.random.default_rng(1).normal(size=(2, 5, 224, 224, 3)).astype(np.float32)
    found = jax.jit(syncnet.embed_lips, static_argnums=1)(params, CFG, jnp.asarray(lips))
    expected = theirs(model, "lip", np.moveaxis(lips, -1, 1))
    assert np.ptp(expected, axis=0).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_clip_has_the_score_that_the_published_steps_give():
    model, _, params = both()
    draw = np.random.default_rng(2)
    crops = draw.integers(0, 255, (16, 224, 224, 3)).astype(np.uint8)
    speech = draw.integers(-9000, 9000, 16 * 640).astype(np.int16)
    columns = cepstrum(speech)
    frames = np.moveaxis(crops[..., ::-1].astype(np.float32), -1, 0)
    lips = torch.from_numpy(
        theirs(model, "lip", np.stack([frames[:, i : i + 5] for i in range(11)]))
    )
    heard = np.stack([columns[None, :, 4 * i : 4 * i + 20] for i in range(11)])
    sound = torch.from_numpy(theirs(model, "aud", heard))
    # Vectors of random networks are nearer to the zeros beyond the sound than to each other.
    nearer = lips.mean(0) - sound.mean(0)
    out = params["audio"]["out"]
    close = {**params["audio"], "out": {**out, "bias": out["bias"] + nearer.numpy()}}
    sound = torch.nn.functional.pad(sound + nearer, (0, 0, lip_sync.REACH, lip_sync.REACH))
    apart = torch.nn.functional.pairwise_distance
    means = torch.stack([apart(lips, sound[shift : shift + 11]).mean() for shift in range(31)])
    found = lip_sync.measure({**params, "audio": close}, CFG, crops, speech)
    assert found is not None
    least, place = means.min(0)
    assert 0 < place < 30
    assert found.offset == int(place) - lip_sync.REACH
    assert found.distance == pytest.approx(float(least), rel=2e-5)
    assert found.confidence == pytest.approx(float(means.median() - least), rel=2e-4)


@pytest.mark.parametrize("counts", [True, False], ids=["new torch", "old torch"])
def test_names_go_there_and_back_bit_for_bit(counts):
    _, tensors, params = both()
    found = table.to_torch(tables.SYNCNET, params)
    kept = {key: value for key, value in tensors.items() if "num_batches" not in key}
    assert found.keys() == kept.keys()
    for key, value in kept.items():
        np.testing.assert_array_equal(found[key], value)
    back = table.to_params(tables.SYNCNET, tensors if counts else kept, params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_published_sizes_have_the_tensors_of_the_torch_layout():
    with torch.device("meta"):
        expected = network(syncnet.Config()).state_dict()
    found = table.shapes(tables.SYNCNET, abstract(syncnet.Config()))
    kept = {key: tuple(value.shape) for key, value in expected.items() if "num_bat" not in key}
    assert found == kept
