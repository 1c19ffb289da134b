"""A kernel cut into what the scratchpads hold at once: channel chunks, bundles and weight sets.

    chunks, weights = cut(shaped, plan, builder)
    region = dram.add(name, weights, ...)                      # in order of use, surviving tiles only

A chunk is ``plan.groups`` output groups. Its inputs are split into bundles, each one scratchpad slot
full; only input groups that some surviving tile reads appear. A piece is one GEMM: tiles of one term
on one bundle, with weights from one set. A set is loaded at once: the whole kernel if that fits a slot,
else a chunk, else (every spatial tile anew) what one bundle needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.targets.vta.lowering.kernels import Int8, Int64, Term, TileSet
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.microops import smallest_distance, spread
from gpw_cli.targets.vta.lowering.tiling import Plan, Shaped, input_sizes


@dataclass(eq=False)
class WeightSet:
    """``count`` tiles from tile ``begin`` of the kernel's region; ``index``: term -> tile -> place.

    ``lasting``: it stays in the scratchpad for all tiles that use it, so one load is enough.
    ``sram``: where it was loaded last, -1: not yet.
    """

    begin: int
    lasting: bool
    count: int = 0
    index: dict[int, Int64] = field(default_factory=dict)
    sram: int = -1


@dataclass(frozen=True, eq=False)
class Part:
    """Input groups of one term, loaded together; ``groups`` ascending."""

    term: int
    groups: Int64


@dataclass(frozen=True, eq=False)
class Piece:
    """One GEMM: ``tiles`` of ``term`` (positions in its TileSet, in the order to run)."""

    stage: int
    term: int
    tiles: TileSet
    distance: int
    weights: WeightSet


@dataclass(frozen=True, eq=False)
class Bundle:
    """``parts`` fill one input slot; ``steps`` read them, each with one weight set."""

    parts: tuple[Part, ...]
    steps: tuple[tuple[Piece, ...], ...]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Output groups [begin, end)."""

    begin: int
    end: int
    bundles: tuple[Bundle, ...]


class Cutter:
    """Cuts one kernel; ``tiles`` collects the weights in order of use."""

    def __init__(self, shaped: Shaped, plan: Plan, builder: Builder) -> None:
        self.shaped, self.plan = shaped, plan
        self.spec = builder.spec
        self.sizes = input_sizes(shaped, plan, self.spec)
        self.room = builder.inp.capacity(plan.slots)
        self.weight_room = builder.wgt.capacity(plan.slots)
        self.stage_of = [n for n, stage in enumerate(shaped.kernel.stages) for _ in stage.terms]
        self.tiles: list[Int8] = []
        self.used = 0

    def cut(self) -> tuple[tuple[Chunk, ...], WeightSet | None]:
        """(chunks, the weight set of the whole kernel if it has one)."""
        everything = [self._sorted(term) for term in self.shaped.kernel.terms]
        shared = self._try_set(list(enumerate(everything)), lasting=True)
        groups, step = self.shaped.out.groups, self.plan.groups
        chunks = [
            self._chunk(begin, min(begin + step, groups), shared)
            for begin in range(0, groups, step)
        ]
        return tuple(chunks), shared

    def _sorted(self, term: Term) -> TileSet:
        """Tiles with the output blocks of one input tap together."""
        tiles = term.tiles
        order = np.lexsort((tiles.out, tiles.col, tiles.row, tiles.inp))
        return tiles.select(order)

    def _chunk(self, begin: int, end: int, shared: WeightSet | None) -> Chunk:
        pixel = self.shaped.out.pixel(self.spec.block_out)
        mine = []
        for term in self.shaped.kernel.terms:
            tiles = self._sorted(term)
            mine.append(tiles.select((tiles.out >= begin * pixel) & (tiles.out < end * pixel)))
        shared = shared or self._try_set(list(enumerate(mine)), lasting=True)
        packed = self._bundles(mine)
        late = self._constant_bundles(packed)
        bundles = []
        for number, parts in enumerate(packed):
            runs = self._runs(parts, mine, {term for term, at in late.items() if at == number})
            bundles.append(Bundle(parts, self._steps(runs, shared)))
        return Chunk(begin, end, tuple(bundles))

    def _bundles(self, mine: list[TileSet]) -> list[tuple[Part, ...]]:
        """Parts in order, packed into as few equally full bundles as the input slot allows."""
        units: list[tuple[int, int]] = []
        for number, source in enumerate(self.shaped.sources):
            if source is not None:
                needed = np.unique(mine[number].inp // source.pixel(self.spec.block_in))
                units.extend((number, int(group)) for group in needed)
        total = sum(self.sizes[number] for number, _ in units)
        share = total / max(1, -(-total // self.room))
        bundles: list[list[tuple[int, int]]] = [[]]
        filled = 0
        for number, group in units:
            size = self.sizes[number]
            if bundles[-1] and (filled + size > self.room or filled >= share):
                bundles.append([])
                filled = 0
            bundles[-1].append((number, group))
            filled += size
        return [self._gather(bundle) for bundle in bundles]

    def _gather(self, units: list[tuple[int, int]]) -> tuple[Part, ...]:
        terms = sorted({number for number, _ in units})
        return tuple(
            Part(term, np.array([group for number, group in units if number == term]))
            for term in terms
        )

    def _constant_bundles(self, packed: list[tuple[Part, ...]]) -> dict[int, int]:
        """Constant term -> its bundle: the first where all earlier stages have their inputs."""
        result = {}
        for term, source in enumerate(self.shaped.sources):
            if source is None:
                stage = self.stage_of[term]
                before = [
                    number
                    for number, parts in enumerate(packed)
                    if any(self.stage_of[part.term] < stage for part in parts)
                ]
                result[term] = max(before, default=0)
        return result

    def _runs(
        self, parts: tuple[Part, ...], mine: list[TileSet], constant: set[int]
    ) -> list[tuple[int, TileSet]]:
        """(term, its tiles on these inputs), in stage order."""
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

    def _steps(
        self, runs: list[tuple[int, TileSet]], shared: WeightSet | None
    ) -> tuple[tuple[Piece, ...], ...]:
        """The GEMMs of one bundle: in one step if one weight set serves them, else one a set."""
        weights = shared or self._try_set(runs, lasting=False)
        limit = max(1, self.spec.uop_limit // 4)
        short = [
            (number, tiles.select(np.arange(begin, min(begin + size, len(tiles.out)))))
            for number, tiles in runs
            for size in [limit if weights else min(limit, self.weight_room)]
            for begin in range(0, len(tiles.out), size)
        ]
        if weights:
            return (tuple(self._piece(number, run, weights) for number, run in short),)
        return tuple(
            (self._piece(number, run, self._set([(number, run)], lasting=False)),)
            for number, run in short
        )

    def _piece(self, number: int, run: TileSet, weights: WeightSet) -> Piece:
        run = run.select(spread(run.out))
        return Piece(self.stage_of[number], number, run, smallest_distance(run.out), weights)

    def _try_set(
        self, runs: list[tuple[int, TileSet]], *, lasting: bool
    ) -> WeightSet | None:
        """One set for all (term, tiles) if it fits a slot."""
        count = sum(len(np.unique(tiles.tile)) for _, tiles in runs)
        return self._set(runs, lasting=lasting) if count <= self.weight_room else None

    def _set(self, runs: list[tuple[int, TileSet]], *, lasting: bool) -> WeightSet:
        result = WeightSet(self.used, lasting)
        for number, tiles in runs:
            _, first = np.unique(tiles.tile, return_index=True)
            wanted = tiles.tile[np.sort(first)]
            place = np.full(len(tiles.data), -1, np.int64)
            place[wanted] = result.count + np.arange(len(wanted))
            result.index[number] = place
            result.count += len(wanted)
            self.tiles.append(tiles.data[wanted])
        self.used += result.count
        return result

    def weights(self) -> Int8:
        """int8 [tiles, block_out, block_in] of all sets, in order of use."""
        empty = np.zeros((0, *self.spec.tile), np.int8)
        return np.concatenate([empty, *self.tiles])
