"""A layer's matrix in blocks that fit the register files, each with SRAM contents of its own.

    blocks = blocks_of(codes, config)      # blocks[output pass][input batch]
    work_of(blocks[0], config)             # what run_queues needs for the first output pass

The two register files of a PE hold ``config.registers`` activations each, so one pass makes at most
``config.vector`` outputs and one batch reads at most as many inputs. Accumulators stay in their
register file from batch to batch; a further pass broadcasts the inputs again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gpw_cli.targets.eie.codebook import Codes
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import Csc, encode
from gpw_cli.targets.eie.memory import Storage, pack, storage, unpack
from gpw_cli.targets.eie.queues import Int64, Work

Blocks = tuple[tuple[Csc, ...], ...]


def blocks_of(codes: Codes, config: EieConfig) -> Blocks:
    """Output passes of input batches of ``codes`` uint8 [outputs, inputs].

    Each block has been through ``pack`` and ``unpack``: it is what its SRAM image says.
    Raises UnsupportedError where a PE has more entries in a block than a pointer reaches.
    """
    return tuple(tuple(_stored(block, config) for block in row) for row in slices_of(codes, config))


def slices_of(codes: Codes, config: EieConfig) -> Iterator[list[Codes]]:
    """The parts of ``codes``: a list of input batches for each output pass."""
    step = config.vector
    for row in range(0, codes.shape[0], step):
        band = codes[row : row + step]
        yield [band[:, column : column + step] for column in range(0, codes.shape[1], step)]


def _stored(codes: Codes, config: EieConfig) -> Csc:
    block = encode(codes, config.pes, config.index_bits)
    return unpack(pack(block, config), block.rows, config)


def work_of(batches: Sequence[Csc], config: EieConfig) -> Work:
    """All input batches of one output pass, side by side; each starts in a line of its own."""
    each = config.entries_per_line
    starts, base = [], np.zeros((config.pes, 1), np.int64)
    for block in batches:
        pointers = block.pointers
        starts.append(pointers[:, :-1] + base)
        base = base + -(-pointers[:, -1:] // each) * each
    return Work(np.concatenate([block.counts for block in batches], 1), np.concatenate(starts, 1))


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
