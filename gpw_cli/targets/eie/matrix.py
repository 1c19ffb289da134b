"""A layer's matrix in blocks that fit the register files, each with SRAM contents of its own.

    blocks = blocks_of(codes, config)      # blocks[output pass][input batch]
    work_of(blocks[0], config)             # what run_queues needs for the first output pass

The two register files of a PE hold ``config.registers`` activations each, so one pass makes at most
``config.vector`` outputs and one batch reads at most as many inputs. Accumulators stay in their
register file from batch to batch; a further pass broadcasts the inputs again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpw_cli.targets.eie.codebook import Codes
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import Csc, encode
from gpw_cli.targets.eie.memory import Storage, pack, storage, unpack
from gpw_cli.targets.eie.queues import Work

Blocks = tuple[tuple[Csc, ...], ...]


def blocks_of(codes: Codes, config: EieConfig) -> Blocks:
    """Output passes of input batches of ``codes`` uint8 [outputs, inputs].

    Each block has been through ``pack`` and ``unpack``: it is what its SRAM image says.
    Raises UnsupportedError where a PE has more entries in a block than a pointer reaches.
    """
    step = config.vector
    return tuple(
        tuple(
            _stored(codes[row : row + step, column : column + step], config)
            for column in range(0, codes.shape[1], step)
        )
        for row in range(0, codes.shape[0], step)
    )


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


def lines_of(blocks: Blocks, config: EieConfig) -> int:
    """Lines of the fullest PE's weight SRAM."""
    each = config.entries_per_line
    used = sum(-(-b.pointers[:, -1] // each) for batches in blocks for b in batches)
    return int(np.max(used))
