"""A kernel cut into what the scratchpads hold at once: channel chunks, bundles and weight sets.

    cutter = Cutter(shaped, plan, builder)
    chunks, weights = cutter.cut(), cutter.weights()
    region = dram.add(name, weights, ...)              # surviving tiles only, in order of use

A chunk is ``plan.groups`` output groups. Its inputs are split into bundles, each one scratchpad
slot full; only input groups that some surviving tile reads appear. A piece is one GEMM: tiles of
one term on one bundle, with weights from one set. A set is loaded at once: the whole kernel if that
fits a slot, else a chunk, else (every spatial tile anew) what one bundle needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.lowering.input_blocking import Shaped, Unit, needed, pack
from gpw_cli.targets.vta.lowering.microops import smallest_distance, spread
from gpw_cli.targets.vta.lowering.tile_ir import Int8, Int64, Term, TileSet
from gpw_cli.targets.vta.lowering.tiling import Plan, input_sizes


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
    """Output ``groups``, ascending."""

    groups: Int64
    bundles: tuple[Bundle, ...]


class Cutter:
    """Cuts one kernel; ``tiles`` collects the weights in order of use."""

    def __init__(self, shaped: Shaped, plan: Plan, builder: Builder) -> None:
        self.shaped, self.plan = shaped, plan
        self.spec = builder.spec
        self.sizes = input_sizes(shaped, plan, self.spec)
        self.room = builder.inp.capacity(plan.slots)
        self.longest = max(1, self.spec.uop_limit // 4)  # tiles of one GEMM
        self.weight_room = builder.wgt.capacity(plan.slots)
        self.stage_of = [n for n, stage in enumerate(shaped.kernel.stages) for _ in stage.terms]
        self.tiles: list[Int8] = []
        self.used = 0

    def cut(self) -> tuple[Chunk, ...]:
        """The chunks, in order."""
        everything = [self._sorted(term) for term in self.shaped.kernel.terms]
        shared = self._try_set(list(enumerate(everything)), lasting=True)
        live, step = self.shaped.out.live, self.plan.groups
        chunks = [
            self._chunk(live[begin : begin + step], shared) for begin in range(0, len(live), step)
        ]
        return tuple(chunks)

    def _sorted(self, term: Term) -> TileSet:
        """Tiles with the output blocks of one input tap together."""
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
        packed = [_gather(bundle) for bundle in pack(units, self.room)]
        late = self._constant_bundles(packed)
        bundles = []
        for number, parts in enumerate(packed):
            runs = self._runs(parts, mine, {term for term, at in late.items() if at == number})
            bundles.append(Bundle(parts, self._steps(runs, shared)))
        return Chunk(groups, tuple(bundles))

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
        if weights:
            short = [
                (number, part) for number, tiles in runs for part in _even(tiles, self.longest)
            ]
            return (tuple(self._piece(number, part, weights) for number, part in short),)
        steps = []
        for step in _balanced(runs, min(self.longest, self.weight_room)):
            weights = self._set(step, lasting=False)
            steps.append(tuple(self._piece(number, part, weights) for number, part in step))
        return tuple(steps)

    def _piece(self, number: int, run: TileSet, weights: WeightSet) -> Piece:
        run = run.select(spread(run.out))
        return Piece(self.stage_of[number], number, run, smallest_distance(run.out), weights)

    def _try_set(self, runs: list[tuple[int, TileSet]], *, lasting: bool) -> WeightSet | None:
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


def _gather(units: list[Unit]) -> tuple[Part, ...]:
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
    """``runs`` cut into as few steps of at most ``limit`` tiles, as equal as possible."""
    total = sum(len(tiles.out) for _, tiles in runs)
    ends = np.linspace(0, total, -(-total // limit) + 1).astype(np.int64)[1:]
    steps: list[list[tuple[int, TileSet]]] = [[] for _ in ends]
    begin = 0
    for number, tiles in runs:
        owner = np.searchsorted(ends, begin + np.arange(len(tiles.out)), side="right")
        for step in np.unique(owner):
            steps[int(step)].append((number, tiles.select(owner == step)))
        begin += len(tiles.out)
    return steps
