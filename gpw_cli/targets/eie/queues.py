"""The cycle in which every PE starts on every activation: EIE's broadcast and its queues.

timed = run_queues(work, active, config)     # ColumnEntries of a matrix, active bool [columns, n]
timed.cycles                                   # int64 [n], one a vector

An activation that is not zero is broadcast to all PEs; a PE spends a cycle on each entry of its
column and one on a column without entries (the pointers have to be read to see that). One is sent a
cycle, but only when every PE has room. With ``start_p(k)`` the cycle in which PE p starts on the
k-th activation that is not zero, D the queue depth and work_p(k) >= 1:

    sent(k)    = max(sent(k-1) + 1 + scan(k), max_p start_p(k-D+1) + 1)
    start_p(k) = max(sent(k) + 1, start_p(k-1) + work_p(k-1))

``scan(k)``: the detector looks at one row of activations (one of each PE) a cycle, so leaving a row
costs a cycle unless its last activation was not zero. A queue of depth 1 has nothing behind the
activation in work: the next is sent when every PE has finished. The recurrence is exact; it gives
the cycles of the C++ simulator that a co-author of EIE published (tests/test_eie_cycles.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools, Int64
from gpw_cli.targets.eie.config import EieConfig


@dataclass(frozen=True, eq=False)
class ColumnEntries:
    """int64 [pes, columns] each: how many entries a PE has in a column, and where they start.

    ``starts`` counts entries in the PE's weight SRAM, whose lines hold whole entries.
    """

    counts: Int64
    starts: Int64


@dataclass(frozen=True, eq=False)
class Queues:
    """Of n vectors, int64 [n] each.

    cycles: until the last PE has finished its last entry. broadcasts: activations sent. full:
    cycles in which one was ready but some queue had no room. scans: cycles of the detector without
    a find. lines: lines of the weight SRAMs read, all PEs.
    """

    cycles: Int64
    broadcasts: Int64
    full: Int64
    scans: Int64
    lines: Int64


def run_queues(work: ColumnEntries, active: Bools, config: EieConfig, reload: int = 0) -> Queues:
    """Times of ``active`` bool [columns, n], each vector on its own, through ``work``.

    ``reload``: cycles between two fillings of the register files (``config.vector`` activations).
    """
    order, sent, gaps = _nonzero(active, config, reload)
    state = _State(work, config, len(sent))
    for k in range(order.shape[1]):
        alive = int(np.searchsorted(-sent, -k, side="left"))
        state.step(k, order[:alive, k], gaps[:alive, k])
    back = np.argsort(_longest_first(active))
    return Queues(
        cycles=(state.finish.max(axis=1) + 1)[back],
        broadcasts=sent[back],
        full=state.full[back],
        scans=gaps.sum(axis=1)[back],
        lines=state.lines[back],
    )


def _longest_first(active: Bools) -> Int64:
    return np.asarray(np.argsort(-active.sum(axis=0), kind="stable"), np.int64)


def _nonzero(active: Bools, config: EieConfig, reload: int) -> tuple[Int64, Int64, Int64]:
    """Vectors with most activations first: columns [n, K], how many [n], cycles before each."""
    ranked = active[:, _longest_first(active)]
    sent = ranked.sum(axis=0)
    most = int(sent.max(initial=0))
    vector, column = np.nonzero(ranked.T)
    slot = np.arange(len(column)) - np.repeat(np.cumsum(sent) - sent, sent)
    order, gaps = np.zeros((len(sent), most), np.int64), np.zeros((len(sent), most), np.int64)
    order[vector, slot] = column
    row = column // config.pes
    first = slot == 0
    previous, ended = np.roll(row, 1), np.roll(column % config.pes == config.pes - 1, 1)
    previous[first], ended[first] = 0, False
    batch = column // config.vector
    before = np.roll(batch, 1)
    before[first] = 0
    gap = row - previous - ended + reload * (batch - before)
    gaps[vector, slot] = gap
    return order, sent, gaps


class _State:
    """The progress of every PE for every vector; a vector that has ended keeps its last values."""

    def __init__(self, work: ColumnEntries, config: EieConfig, vectors: int) -> None:
        counts, starts, each = work.counts, work.starts, config.entries_per_line
        pes = counts.shape[0]
        self.work = np.ascontiguousarray(np.maximum(counts, 1).T)
        self.some = np.ascontiguousarray((counts > 0).T)
        self.first = np.ascontiguousarray((starts // each).T)
        self.last = np.ascontiguousarray(((starts + counts - 1) // each).T)
        self.depth = config.queue_depth
        self.finish = np.full((vectors, pes), -1, np.int64)
        self.line = np.full((vectors, pes), -1, np.int64)
        self.sent = np.full(vectors, -1, np.int64)
        self.full, self.lines = np.zeros(vectors, np.int64), np.zeros(vectors, np.int64)
        self.started: list[Int64] = []  # of activation k: the latest start of any PE

    def step(self, k: int, column: Int64, gap: Int64) -> None:
        """Activation ``k`` of the first vectors, in columns ``column``."""
        n = len(column)
        earliest = self.sent[:n] + 1 + gap
        sent = np.maximum(earliest, self._room(k, n))
        self.full[:n] += sent - earliest
        start = np.maximum(sent[:, None] + 1, self.finish[:n] + 1)
        self.finish[:n] = start + self.work[column] - 1
        self.started.append(start.max(axis=1))
        self.sent[:n] = sent
        self._read(column)

    def _room(self, k: int, n: int) -> Int64:
        if self.depth == 1:
            return np.asarray(self.finish[:n].max(axis=1) + 1, np.int64)
        waiting = self.depth - 1
        if k < waiting:
            return np.zeros(n, np.int64)
        return np.asarray(self.started[k - waiting][:n] + 1, np.int64)

    def _read(self, column: Int64) -> None:
        """Counts the lines that are read; a line still in the PE's register is not read again."""
        n = len(column)
        some, first, last = self.some[column], self.first[column], self.last[column]
        read = last - first + 1 - (first == self.line[:n])
        self.lines[:n] += np.where(some, read, 0).sum(axis=1)
        self.line[:n] = np.where(some, last, self.line[:n])
