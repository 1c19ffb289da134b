"""GEMM micro-ops as matrix products: [positions, K * block_in] x [K * block_in, N * block_out].

The sum of an accumulator does not depend on the order of its micro-ops (int32 wraps around), so the
micro-ops of successive GEMM instructions can be merged: accumulators that sum over the same weight
tiles are the rows of one product, and products over the same inputs share their left operand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64


@dataclass(frozen=True, eq=False)
class MatrixProduct:
    """acc[dst[b]] += inp[src] x tiles[b]^T for each output block b.

    ``src``: int64 [positions, K] input elements. ``blocks``: (dst int64 [positions], tiles int64
    [K]) each; the accumulators of one block are distinct.
    """

    src: Int64
    blocks: tuple[tuple[Int64, Int64], ...]


def matrix_products(dst: Int64, src: Int64, tile: Int64) -> list[MatrixProduct]:
    """The matrix products equivalent to the micro-ops (dst, src, tile), each int64 [n]."""
    shared: dict[bytes, list[tuple[Int64, Int64, Int64]]] = {}
    for accumulators, inputs, tiles in _by_tiles(dst, src, tile):
        order = np.argsort(inputs[0], kind="stable")
        inputs = np.ascontiguousarray(inputs[:, order])
        key = inputs.tobytes() + repr(inputs.shape).encode()
        shared.setdefault(key, []).append((inputs, accumulators, tiles[order]))
    return [
        MatrixProduct(group[0][0], tuple((accumulators, tiles) for _, accumulators, tiles in group))
        for group in shared.values()
    ]


def _by_tiles(dst: Int64, src: Int64, tile: Int64) -> Iterator[tuple[Int64, Int64, Int64]]:
    """(accumulators [m], inputs [m, K], tiles [K]) for accumulators with the same K tiles."""
    order = np.lexsort((src, tile, dst))
    dst, src, tile = dst[order], src[order], tile[order]
    first = np.flatnonzero(np.diff(dst, prepend=-1))
    counts = np.diff(first, append=len(dst))
    for count in np.unique(counts):
        begin = first[counts == count]
        rows = begin[:, None] + np.arange(count)
        tiles, inputs, accumulators = tile[rows], src[rows], dst[begin]
        kinds, kind = np.unique(tiles, axis=0, return_inverse=True)
        for number, signature in enumerate(kinds):
            members = kind.reshape(-1) == number
            yield accumulators[members], inputs[members], signature
