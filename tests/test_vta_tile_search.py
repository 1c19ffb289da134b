"""The tile search takes the tiling that estimating all of them would take."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from integer_graphs import GraphMaker
from vta_programs import timing, vta_spec

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.lowering import tile_search
from gpw_cli.targets.vta.lowering.cost import CostModel
from gpw_cli.targets.vta.lowering.cost_bound import CostBound
from gpw_cli.targets.vta.lowering.network import compile_graph
from gpw_cli.targets.vta.lowering.tiling import Tiling
from gpw_cli.targets.vta.target import unit_costs
from gpw_cli.targets.vta.timing.report import time_program

SPECS = {
    "default": vta_spec(),
    "weights streamed": vta_spec(log_wgt_buff_size=12, log_acc_buff_size=14),
    "all small": vta_spec(log_inp_buff_size=10, log_wgt_buff_size=13, log_acc_buff_size=13),
    "few micro-ops": vta_spec(log_uop_buff_size=9),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_bounds_leave_the_best_tiling(
    spec: VtaSpec, keep: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = GraphMaker(shape=(3, 12, 12))
    first = maker.conv("input", 48, tile=16)
    wide = maker.conv(first, 96, stride=2, keep=keep, tile=16)
    last = maker.conv(wide, 96, residual=wide, residual_shift=2, keep=keep, tile=16)
    maker.conv(last, 10, kernel=6, padding=0, relu=False, bits=32, tile=16)
    pruned, seen = tile_search.cheapest, []

    def compared(tilings: Sequence[Tiling], model: CostModel) -> Tiling:
        bound, costs = CostBound(model), [model.estimate(tiling) for tiling in tilings]
        for tiling, cost in zip(tilings, costs, strict=True):
            assert 0 < bound.below(tiling) <= cost
        found = pruned(tilings, model)
        assert found == tilings[costs.index(min(costs))]
        seen.append(len(tilings))
        return found

    monkeypatch.setattr(tile_search, "cheapest", compared)
    compile_graph(maker.graph(), spec, unit_costs(spec, timing()))
    assert len(seen) == 4
    assert max(seen) > 20


def test_the_search_finds_a_tiling_within_1_percent_of_the_fastest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every tiling of a layer compiled: 64 accumulators, so that a tile is a part of some rows."""
    spec = vta_spec(log_acc_buff_size=12)
    maker = GraphMaker(shape=(16, 16, 16))
    maker.conv("input", 16)
    graph, costs = maker.graph(), unit_costs(spec, timing())
    pruned, seen = tile_search.cheapest, []

    def cycles(chosen: Callable[[Sequence[Tiling], CostModel], Tiling]) -> int:
        monkeypatch.setattr(tile_search, "cheapest", chosen)
        return time_program(compile_graph(graph, spec, costs), timing()).cycles

    def recorded(tilings: Sequence[Tiling], model: CostModel) -> Tiling:
        seen.extend(tilings)
        return pruned(tilings, model)

    found = cycles(recorded)
    every = [cycles(lambda *_, one=tiling: one) for tiling in seen]
    assert len(every) == 32
    assert (found, min(every), max(every)) == (4636, 4605, 22_496)
