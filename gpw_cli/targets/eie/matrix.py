"""A layer's matrix in blocks that fit the register files, each with its own SRAM contents.

    blocks = blocks_of(codes, config)      # blocks[output pass][input batch]
    entries_of(blocks[0], config)          # what run_queues needs for the first output pass

The two register files of a PE hold ``config.registers`` activations each, so one pass makes at most
``config.vector`` outputs and one batch reads at most as many inputs. Accumulators stay in their
register file from batch to batch; a further pass broadcasts the inputs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Bools, Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.codebook import Codes
from gpw_cli.targets.eie.config import POINTER_BITS, EieConfig
from gpw_cli.targets.eie.csc import Csc, encode
from gpw_cli.targets.eie.memory import Storage, pack, storage, unpack
from gpw_cli.targets.eie.queues import ColumnEntries

Matrix = TypeVar("Matrix", NDArray[np.uint8], NDArray[np.bool_])
Blocks = tuple[tuple[Csc, ...], ...]


def blocks_of(codes: Codes, config: EieConfig) -> Blocks:
    """Output passes of input batches of ``codes`` uint8 [outputs, inputs].

    Each block is packed and unpacked, so it is what the SRAMs really hold.
    Raises UnsupportedError where a PE has more entries in a block than a pointer reaches.
    """
    return tuple(tuple(_stored(block, config) for block in row) for row in slices_of(codes, config))


def require_reach(name: str, weights: Bools, config: EieConfig) -> None:
    """Counts the weights of each PE before anything is compressed: padding only adds to them.

    weights: bool [outputs, inputs]. Raises UnsupportedError where pointers do not reach them.
    """
    for row in slices_of(weights, config):
        for block in row:
            rows = np.count_nonzero(block, axis=1)
            most = int(np.bincount(np.arange(len(rows)) % config.pes, rows).max())
            if most > config.max_entries:
                raise UnsupportedError(
                    f"{name}: a PE would hold {most:,} weights of one matrix, a pointer of "
                    f"{POINTER_BITS} bits reaches {config.max_entries:,}: prune more (the first "
                    "and last layers with pruning.include_first=true pruning.include_last=true), "
                    "or use more PEs (target.pes)"
                )


def slices_of(codes: Matrix, config: EieConfig) -> Iterator[list[Matrix]]:
    """The parts of ``codes``: a list of input batches for each output pass."""
    step = config.vector
    for row in range(0, codes.shape[0], step):
        band = codes[row : row + step]
        yield [band[:, column : column + step] for column in range(0, codes.shape[1], step)]


def _stored(codes: Codes, config: EieConfig) -> Csc:
    block = encode(codes, config.pes, config.index_bits)
    return unpack(pack(block, config), block.rows, config)


def entries_of(batches: Sequence[Csc], config: EieConfig) -> ColumnEntries:
    """All input batches of one output pass, side by side; each starts on a new line."""
    each = config.entries_per_line
    starts, base = [], np.zeros((config.pes, 1), np.int64)
    for block in batches:
        pointers = block.pointers
        starts.append(pointers[:, :-1] + base)
        base = base + -(-pointers[:, -1:] // each) * each
    return ColumnEntries(
        np.concatenate([block.counts for block in batches], 1), np.concatenate(starts, 1)
    )


def storage_of(blocks: Blocks, config: EieConfig) -> Storage:
    """Entries and pointers of every block; no codebook."""
    total = Storage(0, 0, 0, 0, 0, 0)
    for batches in blocks:
        for block in batches:
            total = total + storage(block, config)
    return total


def lines_of(blocks: Blocks, config: EieConfig) -> Int64:
    """Lines that the blocks fill in the weight SRAM of every PE, int64 [pes]."""
    each = config.entries_per_line
    used = [-(-block.pointers[:, -1] // each) for batches in blocks for block in batches]
    return np.asarray(np.sum(used, axis=0), np.int64)
