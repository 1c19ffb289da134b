"""EIE's compressed columns: a code for every weight and the number of zeros before it.

    packed = encode(codes, pes=64, index_bits=4)     # uint8 [rows, columns] -> entries of every PE
    decode(packed)                                    # the same codes

Rows are interleaved: row r is row r // pes of PE r % pes. Within a PE and a column, an entry
(code, run) is a weight after ``run`` zeros. A longer run than 2^index_bits - 1 is bridged by
padding entries with code 0 and the longest run, each of which stands for 2^index_bits zeros. Zeros
after a column's last weight are not stored. papers/002, section 4.5.2:

    0 0 1 2 (18 zeros) 3   ->   codes 1 2 0 3   runs 2 0 15 2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int64, UInt8
from gpw_cli.errors import ProgramError


@dataclass(frozen=True, eq=False)
class Csc:
    """Entries of all PEs: PE by PE, column by column, row by row.

    codes, runs: uint8 [entries]. counts: int64 [pes, columns], entries of each column.
    """

    rows: int
    index_bits: int
    codes: UInt8
    runs: UInt8
    counts: Int64

    @property
    def pes(self) -> int:
        """Processing elements."""
        return len(self.counts)

    @property
    def columns(self) -> int:
        """Columns of the matrix, activations of its input."""
        return int(self.counts.shape[1])

    @property
    def entries(self) -> int:
        """Padding included."""
        return len(self.codes)

    @property
    def padding(self) -> int:
        """Entries that only bridge a run of zeros."""
        return int((self.codes == 0).sum())

    @property
    def pointers(self) -> Int64:
        """int64 [pes, columns + 1]: where each column starts in its PE, and the end."""
        ends = np.cumsum(self.counts, axis=1)
        return np.concatenate([np.zeros((self.pes, 1), np.int64), ends], axis=1)


def encode(codes: UInt8, pes: int, index_bits: int) -> Csc:
    """The entries of ``codes`` uint8 [rows, columns]; 0 means no weight."""
    rows, columns = codes.shape
    depth = -(-rows // pes)
    padded = np.zeros((depth * pes, columns), np.uint8)
    padded[:rows] = codes
    by_pe = np.ascontiguousarray(padded.reshape(depth, pes, columns).transpose(1, 2, 0))
    pe, column, row = np.nonzero(by_pe)
    place = pe * columns + column
    before = np.full(len(row), -1, np.int64)
    same = place[1:] == place[:-1]
    before[1:][same] = row[:-1][same]
    zeros = row - before - 1
    size = 1 + (zeros >> index_bits)
    last = np.cumsum(size) - 1
    total = int(size.sum())
    longest = (1 << index_bits) - 1
    out, runs = np.zeros(total, np.uint8), np.full(total, longest, np.uint8)
    out[last], runs[last] = by_pe[pe, column, row], zeros & longest
    counts = np.bincount(place, size, minlength=pes * columns).astype(np.int64)
    return Csc(rows, index_bits, out, runs, counts.reshape(pes, columns))


def places(csc: Csc) -> tuple[Int64, Int64]:
    """(row, column) of every entry in the whole matrix, padding included.

    Raises ProgramError for an entry below the last row.
    """
    flat = csc.counts.ravel()
    place = np.repeat(np.arange(flat.size), flat)
    steps = np.cumsum(csc.runs.astype(np.int64) + 1)
    first = np.cumsum(flat) - flat
    base = np.concatenate([[0], steps])[first]
    row = (steps - np.repeat(base, flat) - 1) * csc.pes + place // csc.columns
    if len(row) and row.max() >= csc.rows:
        at = int(row.argmax())
        raise ProgramError(
            f"entry {at} stands in row {row[at]} of a matrix of {csc.rows} rows; "
            "write the matrix again with encode"
        )
    return row, place % csc.columns


def decode(csc: Csc) -> UInt8:
    """Codes uint8 [rows, columns]."""
    row, column = places(csc)
    codes = np.zeros((csc.rows, csc.columns), np.uint8)
    real = csc.codes != 0
    codes[row[real], column[real]] = csc.codes[real]
    return codes
