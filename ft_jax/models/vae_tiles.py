"""A clip through the autoencoder in overlapping tiles of its picture.

Positions near the edge of a tile miss what lies beyond it, so tiles overlap and are mixed there.
The result is not the whole picture's, and depends on the rule; both rules in use are kept:

    average   as the release of FantasyTalking decodes: every tile weighs 1 inside and falls off
              linearly towards its inner edges (a corner has the smaller of both weights); the
              weighted sum is divided by the sum of weights. No tile starts where the one before it
              in its row or column reaches the edge already.
    blend     as diffusers does: a tile fades linearly into what its upper and then its left
              neighbour became, and only its first `stride` rows and columns count.

Tiles of one shape (all but those at the lower and right edge) go through the network one after the
other in one `lax.map`: there are at most four shapes, and one tile's activations in memory.

Shapes (letters: ft_jax/typing.py): a clip [b f h w c]; sizes are (rows, columns).

Source: FantasyTalking's wan_video_vae.py (tiled_decode); diffusers' AutoencoderKLWan.
Tests: tests/models/vae_tiles_test.py, tests/parity/vae_parity_test.py (diffusers).
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ft_jax.errors import UsageError

Span: TypeAlias = tuple[int, int]  # start and length, along rows or columns
Place: TypeAlias = tuple[int, int]  # number of a tile's row and column
Made: TypeAlias = dict[Place, jax.Array]


@dataclasses.dataclass(frozen=True)
class Tiles:
    """How a picture is cut and put together again; the sizes are the release's.

    Attributes:
      rule: How tiles are mixed where they overlap; "none" leaves the picture whole.
      size: Rows and columns of a tile, in latents.
      stride: From one tile to the next, in latents; at most `size`.

    Raises:
      UsageError: A stride is not between 1 and the size.
    """

    rule: Literal["none", "average", "blend"] = "none"
    size: tuple[int, int] = (30, 52)
    stride: tuple[int, int] = (15, 26)

    def __post_init__(self) -> None:
        if not all(1 <= step <= size for step, size in zip(self.stride, self.size, strict=True)):
            raise UsageError(f"tiles: stride {self.stride}; expected 1 to the size, {self.size}")


def in_tiles(
    function: Callable[[jax.Array], jax.Array],
    x: Float[Array, "b f h w c"],
    tiles: Tiles,
    pixels: tuple[int, int],
) -> Float[Array, "b _ H W o"]:
    """Runs `function` on tiles of `x` and puts the results together.

    Args:
      function: [b f h w c] -> [b _ H W o], any rows and columns.
      x: The clip; not cut if it is not larger than a tile.
      tiles: How.
      pixels: Rows of `x` and of the result in a latent row.
    """
    given, made = pixels
    latents = (x.shape[2] // given, x.shape[3] // given)
    fits = latents[0] <= tiles.size[0] and latents[1] <= tiles.size[1]
    if fits or tiles.rule == "none":
        return function(x)
    rows, columns = (
        spans(tiles.rule, length, size, stride)
        for length, size, stride in zip(latents, tiles.size, tiles.stride, strict=True)
    )
    ready = _run(function, x, _scaled(rows, given), _scaled(columns, given))
    overlap = tuple(
        made * (size - step) for size, step in zip(tiles.size, tiles.stride, strict=True)
    )
    if tiles.rule == "average":
        return _average(ready, _scaled(rows, made), _scaled(columns, made), overlap)
    return _blend(ready, overlap, tuple(made * step for step in tiles.stride))


def spans(rule: str, length: int, size: int, stride: int) -> list[Span]:
    """Where tiles lie along a side of `length`; those that reach beyond it are shorter."""
    starts = range(0, length, stride)
    if rule == "average":
        starts = [start for start in starts if start == 0 or start - stride + size < length]
    return [(start, min(size, length - start)) for start in starts]


def _scaled(line: list[Span], factor: int) -> list[Span]:
    return [(start * factor, length * factor) for start, length in line]


def _run(
    function: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    rows: list[Span],
    columns: list[Span],
) -> Made:
    """The result of every tile; tiles of one shape share one program."""
    shapes: dict[tuple[int, int], list[Place]] = {}
    for i, j in itertools.product(range(len(rows)), range(len(columns))):
        shapes.setdefault((rows[i][1], columns[j][1]), []).append((i, j))
    made: Made = {}
    for (height, width), places in shapes.items():
        sizes = (*x.shape[:2], height, width, x.shape[4])

        def one(start: jax.Array, sizes: tuple[int, ...] = sizes) -> jax.Array:
            return function(lax.dynamic_slice(x, (0, 0, start[0], start[1], 0), sizes))

        starts = np.array([(rows[i][0], columns[j][0]) for i, j in places])
        made.update(zip(places, lax.map(one, jnp.asarray(starts)), strict=True))
    return made


def _average(
    made: Made, rows: list[Span], columns: list[Span], overlap: tuple[int, ...]
) -> jax.Array:
    height, width = (sum(line[-1]) for line in (rows, columns))
    like = made[0, 0]
    total = jnp.zeros_like(like, shape=(*like.shape[:2], height, width, like.shape[4]))
    weight = np.zeros((height, width), np.float32)
    down, across = _ramps(rows, overlap[0]), _ramps(columns, overlap[1])
    for (i, j), tile in made.items():
        mask = np.minimum(down[i][:, None], across[j][None, :])
        place = (slice(rows[i][0], sum(rows[i])), slice(columns[j][0], sum(columns[j])))
        weight[place] += mask
        total = total.at[:, :, *place].add(tile * _over_picture(mask, tile))
    return total / _over_picture(weight, like)


def _ramps(line: list[Span], overlap: int) -> list[np.ndarray]:
    """Weights along one side of every tile: 1, and less towards neighbours."""
    slope = np.arange(1, overlap + 1, dtype=np.float32) / np.float32(max(overlap, 1))
    weights = []
    for number, (_, length) in enumerate(line):
        weight = np.ones(length, np.float32)
        if number > 0:
            weight[:overlap] = slope
        if number + 1 < len(line):
            weight[length - overlap :] = slope[::-1]
        weights.append(weight)
    return weights


def _over_picture(plane: np.ndarray, like: jax.Array) -> jax.Array:
    """[h w] -> [1 1 h w 1] in the type of `like`."""
    return jnp.asarray(plane, like.dtype)[None, None, :, :, None]


def _blend(made: Made, overlap: tuple[int, ...], stride: tuple[int, ...]) -> jax.Array:
    final: Made = {}
    count = 1 + max(i for i, _ in made)
    for i, j in sorted(made):
        tile = made[i, j]
        if i > 0:
            tile = _faded(final[i - 1, j], tile, overlap[0], axis=2)
        if j > 0:
            tile = _faded(final[i, j - 1], tile, overlap[1], axis=3)
        final[i, j] = tile
    lines: list[list[jax.Array]] = [[] for _ in range(count)]
    for i, j in sorted(final):
        lines[i].append(final[i, j][:, :, : stride[0], : stride[1]])
    return jnp.concatenate([jnp.concatenate(line, axis=3) for line in lines], axis=2)


def _faded(before: jax.Array, tile: jax.Array, overlap: int, axis: int) -> jax.Array:
    """`tile` with its first positions along `axis` mixed with the last ones of `before`."""
    extent = min(before.shape[axis], tile.shape[axis], overlap)
    share = jnp.arange(extent, dtype=tile.dtype) / max(extent, 1)
    share = share.reshape((-1,) + (1,) * (tile.ndim - 1 - axis))
    share = share.reshape((1,) * axis + share.shape)
    start = before.shape[axis] - extent
    last = lax.slice_in_dim(before, start, start + extent, axis=axis)
    first, rest = jnp.split(tile, [extent], axis=axis)
    return jnp.concatenate([last * (1 - share) + first * share, rest], axis=axis)
