"""Cycles of the multipliers and bytes of the weights of one convolution.

    product = direct(work, cfg)
    product.cycles, product.bound, product.row_bytes

A pass is one tile of weights against every output position. The multipliers stay idle where
channels do not fill a tile, where positions do not fill the time that the next weights take, and
where arrays wait for the busiest one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools, Int64
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.work import ConvWork, tiles

BIAS_BYTES = 4
GROUP_TAG_BYTES = 4  # of compressed weights, a kernel group
WINOGRAD = 4  # multiplications an output of F(2x2, 3x3), for 9
WINOGRAD_WEIGHTS = (16, 9)  # transformed weights for 9


@dataclass(frozen=True, eq=False)
class Product:
    """``cycles``: of the multipliers; ``bound``: with every array busy in every one of them.

    ``tiles``: passes, of all arrays. ``row_bytes`` int64 [rows]: weights and biases in DRAM of each
    row of tiles, a row being the output channels of one tile.
    """

    cycles: int
    bound: int
    tiles: int
    row_bytes: Int64


def products(work: ConvWork, cfg: EngineConfig) -> list[Product]:
    """The ways in which the engine can multiply this layer."""
    if work.image and cfg.image_mode:
        return [image(work, cfg)]
    found = [direct(work, cfg)]
    if cfg.winograd and work.kernel == (3, 3) and work.stride == (1, 1):
        found.append(winograd(work, cfg))
    return found


def direct(work: ConvWork, cfg: EngineConfig) -> Product:
    """One kernel position at a time."""
    there = _multiplied(work.nonzero, cfg)
    share = cfg.batch if work.pixels == 1 else 1
    stream = work.pixels * share
    cycles, bound = _passes(there, stream, cfg)
    row_bytes = -(-weight_bytes(work.nonzero, cfg) // share)
    return Product(-(-cycles // share), -(-bound // share), int(there.sum()), row_bytes)


def image(work: ConvWork, cfg: EngineConfig) -> Product:
    """NVDLA's image input: the columns of a kernel row and their channels are one vector.

    Up to four kernel rows are joined too where they fit (channel post-extension: the limits are a
    quarter and a half of ``atomic_c``). A stripe does not cross a line of the image.
    """
    packed = join_rows(work.nonzero, work.stride[1], cfg.atomic_c)
    there = _multiplied(packed, cfg)
    longest = cfg.atomic_k * (4 if cfg.atomic_c == 4 * cfg.atomic_k else 2)
    whole, rest = divmod(work.out[2], longest)
    line = whole * longest + (max(rest, cfg.weight_cycles) if rest else 0)
    cycles, _ = _passes(there, work.out[1] * line, cfg)
    _, bound = _passes(there, work.pixels, cfg)
    return Product(cycles, bound, int(there.sum()), weight_bytes(packed, cfg))


def join_rows(nonzero: Bools, stride: int, atomic_c: int) -> Bools:
    """[O, I, KH, KW] -> [O, joined * KW * I, ceil(KH / joined), 1], absent rows being zero."""
    out, in_, high, wide = nonzero.shape
    joined = 1
    for rows in (2, 4):
        if max(wide * in_, stride * in_) * rows <= atomic_c:
            joined = rows
    steps = -(-high // joined)
    grown = np.zeros((out, in_, steps * joined, wide), np.bool_)
    grown[:, :, :high] = nonzero
    split = grown.reshape(out, in_, steps, joined, wide).transpose(0, 3, 4, 1, 2)
    return np.ascontiguousarray(split.reshape(out, joined * wide * in_, steps, 1))


def winograd(work: ConvWork, cfg: EngineConfig) -> Product:
    """F(2x2, 3x3): a tile that is zero at some of the nine positions is still multiplied."""
    pairs = work.nonzero.any((2, 3), keepdims=True)
    positions = np.broadcast_to(pairs, (*pairs.shape[:2], WINOGRAD, 1))
    there = _multiplied(positions, cfg)
    pixels = 4 * (-(-work.out[1] // 2)) * (-(-work.out[2] // 2))
    cycles, bound = _passes(there, pixels, cfg)
    dense = np.broadcast_to(pairs, work.nonzero.shape)
    more, less = WINOGRAD_WEIGHTS
    row_bytes = -(-weight_bytes(dense, cfg) * more // less)
    return Product(cycles, bound, int(there.sum()), row_bytes)


def _multiplied(nonzero: Bools, cfg: EngineConfig) -> Bools:
    """[rows, columns, KH, KW]: the tiles that take a pass."""
    there = tiles(nonzero, cfg.tile)
    return there if cfg.skips_zero_tiles else np.ones_like(there)


def _passes(there: Bools, pixels: int, cfg: EngineConfig) -> tuple[int, int]:
    """(cycles, bound) of the passes of the tiles ``there``."""
    beats = -(-cfg.atomic_c // cfg.input_width) if cfg.input_width else 1
    if cfg.virtual_neurons:  # neurons that read the same input share a pass
        readers = there.sum(0)
        passes = int((-(-readers // cfg.atomic_k)).sum())
        share = cfg.arrays
        cycles = passes * _pass(-(-pixels // share) * beats, cfg)
        return cycles, -(-int(readers.sum()) * pixels * beats // (cfg.atomic_k * share))
    rows = there.sum((1, 2, 3))
    bound = -(-int(rows.sum()) * pixels * beats // cfg.arrays)
    if len(rows) >= cfg.arrays:
        busiest = max(int(rows[first :: cfg.arrays].sum()) for first in range(cfg.arrays))
        return busiest * _pass(pixels * beats, cfg), bound
    share = cfg.arrays // len(rows)
    return int(rows.max()) * _pass(-(-pixels // share) * beats, cfg), bound


def _pass(stream: int, cfg: EngineConfig) -> int:
    """Cycles of one tile of weights against a ``stream`` of inputs."""
    if cfg.weight_overlap:
        return max(stream, cfg.weight_cycles)
    return stream + cfg.weight_cycles


def weight_bytes(nonzero: Bools, cfg: EngineConfig) -> Int64:
    """int64 [rows of tiles]: what DRAM holds of the weights of each row, with its biases.

    Skipped tiles are not stored, and one bit a tile says which; compressed weights are the
    non-zero ones with one bit a weight (NVDLA's format).
    """
    tile_k = cfg.tile[0]
    out = nonzero.shape[0]
    starts = np.arange(0, out, tile_k)
    channels = np.minimum(out - starts, tile_k)
    if cfg.skips_zero_tiles:
        there = tiles(nonzero, cfg.tile)
        starts_in = cfg.atomic_c * np.arange(there.shape[1])
        widths = np.minimum(cfg.atomic_c, nonzero.shape[1] - starts_in)
        stored = np.einsum("kcrs,c->k", there.astype(np.int64), widths) * channels * cfg.value_bytes
        tags = -(-there[0].size // 8)
    elif cfg.weight_compression:
        stored = np.add.reduceat(nonzero.sum((1, 2, 3)), starts) * cfg.value_bytes
        tags = -(-channels * nonzero[0].size // 8) + GROUP_TAG_BYTES
    else:
        stored = channels * nonzero[0].size * cfg.value_bytes
        tags = 0
    return np.asarray(stored + tags + BIAS_BYTES * channels, np.int64)
