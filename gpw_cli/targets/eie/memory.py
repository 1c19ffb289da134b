"""The contents of each PE's SRAMs, bit for bit, and their size.

    images = pack(csc, config)          # one PeImage a PE
    unpack(images, csc.rows, config)    # equal to csc

A line of the weight SRAM holds whole entries, the first in its lowest bits; an entry is its code in
the low ``code_bits`` bits, then its run. A pointer is 16 bits: the line, and in the low bits the
entry within the line (13 and 3 bits for lines of 8). Pointers of even columns lie in one bank, of
odd columns in the other, so that both ends of a column are read in one cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError, UnsupportedError
from gpw_cli.targets.eie.config import POINTER_BITS, VALUE_BITS, EieConfig
from gpw_cli.targets.eie.csc import Csc

Bytes = NDArray[np.uint8]
Pointers = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class PeImage:
    """One PE. weights: uint8 [lines, bytes of a line]; even, odd: uint16, one pointer a column."""

    weights: Bytes
    even: Pointers
    odd: Pointers


@dataclass(frozen=True)
class Storage:
    """Bits of a compressed matrix; sums with ``+``."""

    weights: int  # of the matrix, zeros included
    entries: int
    padding: int
    entry_bits: int  # of all entries
    pointer_bits: int
    codebook_bits: int

    @property
    def bits(self) -> int:
        """All of it."""
        return self.entry_bits + self.pointer_bits + self.codebook_bits

    @property
    def compression(self) -> float:
        """How many times smaller than 32 bits a weight."""
        return 32 * self.weights / self.bits

    def __add__(self, other: Storage) -> Storage:
        return Storage(
            self.weights + other.weights,
            self.entries + other.entries,
            self.padding + other.padding,
            self.entry_bits + other.entry_bits,
            self.pointer_bits + other.pointer_bits,
            self.codebook_bits + other.codebook_bits,
        )


def storage(csc: Csc, config: EieConfig) -> Storage:
    """Entries at their bits, 16 bits a pointer (columns + 1 a PE); no codebook."""
    return Storage(
        weights=csc.rows * csc.columns,
        entries=csc.entries,
        padding=csc.padding,
        entry_bits=csc.entries * config.entry_bits,
        pointer_bits=csc.pes * (csc.columns + 1) * POINTER_BITS,
        codebook_bits=0,
    )


def codebook_bits(config: EieConfig) -> int:
    """2^code_bits values of 16 bits; one table a layer."""
    return (1 << config.code_bits) * VALUE_BITS


def pack(csc: Csc, config: EieConfig) -> list[PeImage]:
    """The SRAM contents. UnsupportedError where a PE has more entries than a pointer reaches."""
    pointers = csc.pointers
    most = int(pointers[:, -1].max())
    if most > config.max_entries:
        raise UnsupportedError(
            f"a PE would hold {most:,} entries of one matrix, a pointer of {POINTER_BITS} bits "
            f"reaches {config.max_entries:,}: prune more, or use more PEs (target.pes)"
        )
    ends = np.cumsum(pointers[:, -1])
    values = (csc.runs.astype(np.int64) << config.code_bits) + csc.codes
    return [
        _image(values[end - own[-1] : end], own, config)
        for end, own in zip(ends, pointers, strict=True)
    ]


def _image(values: Int64, pointers: Int64, config: EieConfig) -> PeImage:
    each = config.entries_per_line
    lines = -(-len(values) // each)
    padded = np.zeros(lines * each, np.int64)
    padded[: len(values)] = values
    bits = (padded[:, None] >> np.arange(config.entry_bits) & 1).astype(np.uint8)
    whole = np.zeros((lines, -(-config.sram_bits // 8) * 8), np.uint8)
    whole[:, : each * config.entry_bits] = bits.reshape(lines, each * config.entry_bits)
    address = (pointers // each << config.slot_bits | pointers % each).astype(np.uint16)
    return PeImage(np.packbits(whole, axis=1, bitorder="little"), address[::2], address[1::2])


def unpack(images: Sequence[PeImage], rows: int, config: EieConfig) -> Csc:
    """The matrix in the SRAMs; ProgramError for pointers that go back or past the last line."""
    codes, runs, counts = [], [], []
    for number, image in enumerate(images):
        pointers = _pointers(image, config)
        values = _entries(image, config)
        size = np.diff(pointers)
        if (size < 0).any() or pointers[0] != 0 or pointers[-1] > len(values):
            raise ProgramError(
                f"PE {number}: its column pointers do not ascend from 0 to at most {len(values)}; "
                "write the matrix again with pack"
            )
        values = values[: pointers[-1]]
        codes.append(values & ((1 << config.code_bits) - 1))
        runs.append(values >> config.code_bits)
        counts.append(size)
    return Csc(
        rows,
        config.index_bits,
        np.concatenate(codes).astype(np.uint8),
        np.concatenate(runs).astype(np.uint8),
        np.stack(counts),
    )


def _pointers(image: PeImage, config: EieConfig) -> Int64:
    address = np.zeros(len(image.even) + len(image.odd), np.int64)
    address[::2], address[1::2] = image.even, image.odd
    slot = address & ((1 << config.slot_bits) - 1)
    return np.asarray((address >> config.slot_bits) * config.entries_per_line + slot, np.int64)


def _entries(image: PeImage, config: EieConfig) -> Int64:
    width = config.entries_per_line * config.entry_bits
    bits = np.unpackbits(image.weights, axis=1, bitorder="little")[:, :width]
    powers = 1 << np.arange(config.entry_bits)
    return np.asarray(bits.reshape(-1, config.entry_bits) @ powers, np.int64)
