"""Cuts a kernel into blocks that the scratchpads hold at once: chunks, bundles and weight sets.

    blocks = cut(shaped, tiling, spec, sram)
    blocks.weights                                     # the surviving tiles, in order of use

A chunk is ``tiling.groups`` output groups. Its inputs are split into bundles that fit a scratchpad
slot; only input groups that a surviving tile reads are included. A piece is one GEMM: tiles of one
term on one bundle, with weights from one set. A weight set is loaded at once: the whole kernel if
it fits a slot, else the tiles of a chunk, else those of a bundle, which are loaded for every
spatial tile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gpw_cli.arrays import Int8, Int64
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering.input_blocking import InputGroup, Shaped, in_bundles, needed
from gpw_cli.targets.vta.lowering.microops import smallest_distance, spread
from gpw_cli.targets.vta.lowering.sram import SramLayout
from gpw_cli.targets.vta.lowering.tile_ir import Term, TileSet
from gpw_cli.targets.vta.lowering.tiling import Tiling, input_sizes


@dataclass(frozen=True, eq=False)
class WeightSet:
    """``count`` tiles from tile ``begin`` of the kernel's region, which are loaded at once.

    ``index``: where tile t of term k lies in the set, ``index[k][t]``; -1: it does not.
    ``lasting``: it stays in the scratchpad for all tiles that use it, so it is loaded once.
    """

    begin: int
    lasting: bool
    count: int
    index: Mapping[int, Int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Input groups of one term that are loaded together; ``groups`` ascending."""

    term: int
    groups: Int64


@dataclass(frozen=True, eq=False)
class Piece:
    """One GEMM: ``tiles`` of ``term``, in the order to run."""

    phase: int
    term: int
    tiles: TileSet
    distance: int
    weights: WeightSet


@dataclass(frozen=True, eq=False)
class Bundle:
    """``parts`` fill an input slot; ``rounds`` of GEMMs read them, each with one weight set."""

    parts: tuple[Part, ...]
    rounds: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Output ``groups``, ascending."""

    groups: Int64
    bundles: tuple[Bundle, ...]


@dataclass(frozen=True, eq=False)
class Blocks:
    """``chunks`` in the order to run; ``weights`` int8 [tiles, block_out, block_in]: the tiles of
    all their weight sets.
    """

    chunks: tuple[Chunk, ...] = ()
    weights: Int8 = field(default_factory=lambda: np.zeros((0, 0, 0), np.int8))


def cut(shaped: Shaped, tiling: Tiling, spec: VtaSpec, sram: SramLayout) -> Blocks:
    """The blocks of a kernel under ``tiling``."""
    cutter = _Cutter(shaped, tiling, spec, sram)
    chunks = cutter.cut()
    empty = np.zeros((0, *spec.tile), np.int8)
    return Blocks(chunks, np.concatenate([empty, *cutter.tiles]))


class _Cutter:
    """Cuts one kernel; ``tiles`` collects the weights in order of use."""

    def __init__(self, shaped: Shaped, tiling: Tiling, spec: VtaSpec, sram: SramLayout) -> None:
        self.shaped, self.tiling, self.spec = shaped, tiling, spec
        self.sizes = input_sizes(shaped, tiling, spec)
        self.room = sram.inp // tiling.slots
        self.longest = max(1, spec.uop_limit // 4)  # tiles of one GEMM
        self.weight_room = sram.wgt // tiling.slots
        self.phase_of = [n for n, phase in enumerate(shaped.kernel.phases) for _ in phase.terms]
        self.tiles: list[Int8] = []
        self.used = 0

    def cut(self) -> tuple[Chunk, ...]:
        """The chunks, in order."""
        everything = [self._sorted(term) for term in self.shaped.kernel.terms]
        shared = self._try_set(list(enumerate(everything)), lasting=True)
        live, step = self.shaped.out.live, self.tiling.groups
        chunks = [
            self._chunk(live[begin : begin + step], shared) for begin in range(0, len(live), step)
        ]
        return tuple(chunks)

    def _sorted(self, term: Term) -> TileSet:
        """The tiles of ``term``, those of one input tap next to one another."""
        tiles = term.tiles
        order = np.lexsort((tiles.out, tiles.col, tiles.row, tiles.inp))
        return tiles.select(order)

    def _chunk(self, groups: Int64, shared: WeightSet | None) -> Chunk:
        pixel = self.shaped.out.pixel(self.spec.block_out)
        mine = []
        for term in self.shaped.kernel.terms:
            tiles = self._sorted(term)
            mine.append(tiles.select(np.isin(tiles.out // pixel, groups)))
        shared = shared or self._try_set(list(enumerate(mine)), lasting=True)
        units = needed(self.shaped, self.sizes, groups)
        packed = [_gather(bundle) for bundle in in_bundles(units, self.room)]
        late = self._constant_bundles(packed)
        bundles = []
        for number, parts in enumerate(packed):
            runs = self._runs(parts, mine, {term for term, at in late.items() if at == number})
            bundles.append(Bundle(parts, self._rounds(runs, shared)))
        return Chunk(groups, tuple(bundles))

    def _constant_bundles(self, packed: list[tuple[Part, ...]]) -> dict[int, int]:
        """Constant term -> the first bundle in which all earlier phases have their inputs."""
        result = {}
        for term, source in enumerate(self.shaped.sources):
            if source is None:
                phase = self.phase_of[term]
                before = [
                    number
                    for number, parts in enumerate(packed)
                    if any(self.phase_of[part.term] < phase for part in parts)
                ]
                result[term] = max(before, default=0)
        return result

    def _runs(
        self, parts: tuple[Part, ...], mine: list[TileSet], constant: set[int]
    ) -> list[tuple[int, TileSet]]:
        """(term, its tiles on these inputs), in phase order."""
        groups = {part.term: part.groups for part in parts}
        runs = []
        for number, source in enumerate(self.shaped.sources):
            tiles = mine[number]
            if source is not None:
                group = tiles.inp // source.pixel(self.spec.block_in)
                tiles = tiles.select(np.isin(group, groups.get(number, np.zeros(0, np.int64))))
            elif number not in constant:
                continue
            if len(tiles.out):
                runs.append((number, tiles))
        return runs

    def _rounds(
        self, runs: list[tuple[int, TileSet]], shared: WeightSet | None
    ) -> tuple[tuple[Piece, ...], ...]:
        """The GEMMs of one bundle, in one round per weight set."""
        weights = shared or self._try_set(runs, lasting=False)
        if weights:
            short = [
                (number, part) for number, tiles in runs for part in _even(tiles, self.longest)
            ]
            return (tuple(self._piece(number, part, weights) for number, part in short),)
        rounds = []
        for run in _balanced(runs, min(self.longest, self.weight_room)):
            weights = self._set(run, lasting=False)
            rounds.append(tuple(self._piece(number, part, weights) for number, part in run))
        return tuple(rounds)

    def _piece(self, number: int, run: TileSet, weights: WeightSet) -> Piece:
        run = run.select(spread(run.out))
        return Piece(self.phase_of[number], number, run, smallest_distance(run.out), weights)

    def _try_set(self, runs: list[tuple[int, TileSet]], *, lasting: bool) -> WeightSet | None:
        """One set for all (term, tiles), if it fits a slot."""
        count = sum(len(np.unique(tiles.tile)) for _, tiles in runs)
        return self._set(runs, lasting=lasting) if count <= self.weight_room else None

    def _set(self, runs: list[tuple[int, TileSet]], *, lasting: bool) -> WeightSet:
        begin, count, index = self.used, 0, {}
        for number, tiles in runs:
            _, first = np.unique(tiles.tile, return_index=True)
            wanted = tiles.tile[np.sort(first)]
            index[number] = np.full(len(tiles.data), -1, np.int64)
            index[number][wanted] = count + np.arange(len(wanted))
            count += len(wanted)
            self.tiles.append(tiles.data[wanted])
        self.used += count
        return WeightSet(begin, lasting, count, index)


def _gather(units: list[InputGroup]) -> tuple[Part, ...]:
    terms = sorted({unit.term for unit in units})
    return tuple(
        Part(term, np.array([unit.group for unit in units if unit.term == term])) for term in terms
    )


def _even(tiles: TileSet, limit: int) -> list[TileSet]:
    """Runs of at most ``limit`` tiles, as equal as possible."""
    count = len(tiles.out)
    pieces = np.array_split(np.arange(count), -(-count // limit))
    return [tiles.select(piece) for piece in pieces]


def _balanced(runs: list[tuple[int, TileSet]], limit: int) -> list[list[tuple[int, TileSet]]]:
    """``runs`` cut into as few rounds of at most ``limit`` tiles, as equal as possible."""
    total = sum(len(tiles.out) for _, tiles in runs)
    ends = np.linspace(0, total, -(-total // limit) + 1).astype(np.int64)[1:]
    rounds: list[list[tuple[int, TileSet]]] = [[] for _ in ends]
    begin = 0
    for number, tiles in runs:
        owner = np.searchsorted(ends, begin + np.arange(len(tiles.out)), side="right")
        for which in np.unique(owner):
            rounds[int(which)].append((number, tiles.select(owner == which)))
        begin += len(tiles.out)
    return rounds
