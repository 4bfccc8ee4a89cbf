"""Tiles of a picture: where they lie, and the release's weights, restated in plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ft_jax.errors import UsageError
from ft_jax.models import vae
from ft_jax.models.vae_tiles import Tiles, in_tiles, spans

SIDE = 2  # pixels in a latent, of the stand-in for a network


def blurred(x):
    """Doubles rows and columns; every position sees the whole tile, so that tiles differ."""
    y = jnp.repeat(jnp.repeat(x, SIDE, axis=2), SIDE, axis=3)
    return y + jnp.sin(7 * x.mean(axis=(2, 3), keepdims=True)) * x.shape[2]


def restated(x, size, stride):
    """The rule of the release, as its fact sheet tells it."""
    height, width = x.shape[2:4]
    starts = [
        [i for i in range(0, n, step) if i == 0 or i - step + tile < n]
        for n, tile, step in zip((height, width), size, stride, strict=True)
    ]
    shape = (*x.shape[:2], height * SIDE, width * SIDE, x.shape[4])
    total, weight = np.zeros(shape), np.zeros(shape)
    for row in starts[0]:
        for column in starts[1]:
            end_row, end_column = row + size[0], column + size[1]
            tile = np.asarray(blurred(x[:, :, row:end_row, column:end_column]))
            lines = []
            for n, start, end, whole, border in (
                (tile.shape[2], row, end_row, height, (size[0] - stride[0]) * SIDE),
                (tile.shape[3], column, end_column, width, (size[1] - stride[1]) * SIDE),
            ):
                line = np.ones(n)
                for k in range(border):
                    line[k] = line[k] if start == 0 else (k + 1) / border
                    line[-1 - k] = line[-1 - k] if end >= whole else (k + 1) / border
                lines.append(line)
            mask = np.minimum(lines[0][:, None], lines[1][None, :])[None, None, :, :, None]
            place = np.s_[:, :, row * SIDE : end_row * SIDE, column * SIDE : end_column * SIDE]
            total[place] += tile * mask
            weight[place] += mask
    return total / weight


@pytest.mark.parametrize(
    ("rows", "columns", "size", "stride"),
    [(9, 11, (4, 6), (2, 3)), (5, 4, (4, 4), (3, 1)), (4, 10, (4, 3), (2, 3))],
)
def test_averaging_is_the_rule_of_the_release(rows, columns, size, stride):
    x = jax.random.normal(jax.random.key(0), (2, 3, rows, columns, 2))
    found = jax.jit(lambda x: in_tiles(blurred, x, Tiles("average", size, stride), (1, SIDE)))(x)
    np.testing.assert_allclose(found, restated(x, size, stride), atol=1e-5)


@pytest.mark.parametrize(("side", "tiles"), [((64, 64), 8), ((60, 104), 9), ((90, 160), 30)])
def test_the_release_cuts_its_pictures_into_so_many_tiles(side, tiles):
    made = Tiles("average")
    rows, columns = (
        spans("average", *each) for each in zip(side, made.size, made.stride, strict=True)
    )
    assert len(rows) * len(columns) == tiles
    assert sum(rows[-1]) == side[0] and sum(columns[-1]) == side[1]


def test_a_tile_sees_no_more_than_itself_and_equal_ones_share_a_program():
    seen = []

    def network(x):
        seen.append(x.shape[2:4])
        return x

    x = jax.random.normal(jax.random.key(0), (1, 1, 70, 60, 2))
    found = in_tiles(network, x, Tiles("blend", (32, 32), (24, 24)), (1, 1))
    np.testing.assert_allclose(found, x, atol=1e-6)
    assert sorted(set(seen)) == [(22, 12), (22, 32), (32, 12), (32, 32)]


@pytest.mark.parametrize(("rule", "rows"), [("average", 4), ("blend", 4), ("none", 9)])
def test_a_picture_no_larger_than_a_tile_and_one_without_a_rule_are_not_cut(rule, rows):
    x = jax.random.normal(jax.random.key(0), (1, 1, rows, 3, 2))
    found = in_tiles(blurred, x, Tiles(rule, (4, 4), (2, 2)), (1, SIDE))
    np.testing.assert_array_equal(found, blurred(x))


def test_encoding_in_tiles_takes_pixels_and_gives_latents():
    cfg = vae.Config(
        width=4, blocks=1, channels=1, multipliers=(1, 1), time=(False,), mean=(0.0,), std=(1.0,)
    )
    params = jax.jit(vae.init, static_argnums=1)(jax.random.key(0), cfg)
    video = jax.random.uniform(jax.random.key(1), (1, 1, 12, 8, 3), minval=-1.0)
    pieces = vae.Pieces(tiles=Tiles("average", (4, 4), (2, 2)))
    encode = jax.jit(vae.encode, static_argnums=(1, 3))
    tiled, whole = (encode(params, cfg, video, each) for each in (pieces, vae.WHOLE))
    assert tiled.shape == whole.shape
    assert 0 < np.abs(tiled - whole).max()


@pytest.mark.parametrize("stride", [(0, 1), (5, 1), (1, 9)])
def test_strides_that_leave_gaps_are_refused(stride):
    with pytest.raises(UsageError, match=r"tiles: stride .* expected 1 to the size"):
        Tiles("average", (4, 8), stride)
