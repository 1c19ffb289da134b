"""The knapsack's choices and the costs that it works with, in exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from gpw_cli.arrays import Bools
from gpw_cli.errors import UsageError
from gpw_cli.pruning.budget import Measured, Problem, choose, measure_costs, smallest
from gpw_cli.pruning.fill import filled_up
from gpw_cli.pruning.knapsack import Choice, Costs, Knapsack, Prunable, best, layers_of

Rows = list[list[bool]]
Branch = frozenset[int]


def layer(*gains: float) -> Prunable:
    """Units at kernel positions of one tile."""
    shape = (1, 1, 1, len(gains))
    return Prunable("layer", np.arange(len(gains)).reshape(shape), np.reshape(gains, shape))


def sack(
    layers: Sequence[Prunable],
    unit: Sequence[float],
    fixed: Sequence[float],
    branches: Sequence[Branch] = (),
    rest: float = 0.0,
    dense: int = 100,
) -> Knapsack:
    return Knapsack(layers, branches, Costs(unit, fixed, rest, dense))


def rows(choice: Choice) -> Rows:
    return [kept.tolist() for kept in choice.kept]


#: saliency per cycle: 2.5, 1.5, 0.5 in the first layer, 4/3 twice in the second
TWO = sack([layer(5, 3, 1), layer(4, 4)], [2, 3], [10, 1], [Branch({0}), Branch({1})], rest=7)


def test_a_unit_gains_what_its_groups_do() -> None:
    units = np.array([[0, 1, 0], [2, 1, 2]])
    made = Prunable("x", units, np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]))
    assert made.gains.tolist() == [5.0, 18.0, 40.0]
    assert best(np.array([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [False, True, True, False]
    assert best(np.array([2.0, 2.0, 2.0]), 2).tolist() == [True, True, False]
    assert layers_of([Branch({0, 3}), Branch({1}), Branch({2})], Branch({0, 2})) == {0, 2, 3}


def test_prices_reach_from_everything_to_nothing() -> None:
    prices = sack([layer(1, 0, 2), layer(4)], [1, 1], [0, 0]).prices
    assert len(prices) == 400
    assert prices[[0, -1]] == pytest.approx([1 / 100 / 2, 2 * 7])
    assert sack([layer(1)], [1], [0], dense=0).prices[0] == pytest.approx(0.5)
    assert sack([layer(0, 0)], [1], [0]).prices.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("limit", "kept", "cycles", "saliency"),
    [
        (30.0, [[True, True, True], [True, True]], 30.0, 17.0),
        (29.9, [[True, True, False], [True, True]], 28.0, 16.0),
        (28.0, [[True, True, False], [True, True]], 28.0, 16.0),
        (27.0, [[True, True, True], [True, False]], 27.0, 13.0),  # the small unit still fits
        (26.9, [[True, True, False], [True, False]], 25.0, 12.0),
        (5.0, [[True, False, False], [True, False]], 23.0, 9.0),  # the best unit of a layer stays
    ],
)
def test_units_go_by_their_saliency_per_cycle(
    limit: float, kept: Rows, cycles: float, saliency: float
) -> None:
    found = TWO.filled(Branch(), limit)
    assert (rows(found), found.cycles, found.saliency) == (kept, cycles, saliency)
    assert found.gone == Branch()


def test_equal_units_are_added_in_the_order_of_layers_and_units() -> None:
    made = sack([layer(4, 4, 4), layer(4, 4)], [2, 2], [0, 0])
    assert rows(made.filled(Branch(), 8.0)) == [[True, True, True], [True, False]]
    assert rows(made.filled(Branch(), 6.0)) == [[True, True, False], [True, False]]


def test_units_without_cycles_come_back() -> None:
    made = sack([layer(4, 0, 1), layer(9, 6)], [0, 3], [1, 0])
    assert rows(made.filled(Branch(), 4.0)) == [[True, True, True], [True, False]]


def test_removed_branches_cost_and_gain_nothing() -> None:
    found = TWO.filled(Branch({0}), 100.0)
    assert (rows(found), found.cycles, found.saliency) == ([[False] * 3, [True] * 2], 14.0, 8.0)
    assert found.gone == {0}
    none = TWO.filled(Branch({0}), 11.0)  # nothing of the branch is added in the end either
    assert (rows(none), none.cycles) == ([[False] * 3, [True, False]], 11.0)
    assert TWO.filled(Branch({0, 1}), 3.0).cycles == 7.0


def test_branches_go_where_their_gain_does_not_pay_their_cycles() -> None:
    """The first is worth 8 - 14 p at a price p (from 4/7 on it goes), the second 8 - 7 p."""
    assert TWO.branch_sets() == [Branch(), Branch({0}), Branch({0, 1})]
    joined = replace(TWO, branches=[Branch({0, 1})])
    assert joined.branch_sets() == [Branch(), Branch({0})]
    free = sack([layer(2), layer(1)], [0, 0], [0, 0], [Branch({1})])
    assert free.branch_sets() == [Branch()]
    idle = sack([layer(2), layer(0)], [0, 0], [0, 0], [Branch({1})])
    assert idle.branch_sets() == [Branch({0})]  # no gain at no cost: as well without it


def test_branches_come_back_in_part_the_most_salient_first() -> None:
    layers = [layer(9), layer(4, 2, 1), layer(5, 5)]
    made = sack(layers, [1, 2, 2], [0, 4, 6], [Branch({1}), Branch({2})])
    bare = made.filled(Branch({0, 1}), 9.0)
    assert (bare.cycles, bare.saliency) == (1.0, 9.0)
    found = made.returned(bare, 9.0)  # 1 + 6 + 2 for 5, or 1 + 4 + 2 * 2 for 6
    assert (found.gone, found.saliency, found.cycles) == (Branch({1}), 15.0, 9.0)
    more = made.returned(bare, 17.0)
    assert (more.gone, more.saliency, more.cycles) == (Branch(), 9.0 + 5.0 + 5.0 + 4.0, 17.0)
    assert made.returned(bare, 6.0) is bare
    worthless = sack([layer(9), layer(0)], [1, 1], [0, 0], [Branch({1})])
    alone = worthless.filled(Branch({0}), 9.0)
    assert worthless.returned(alone, 9.0) is alone


def measured(cycles: Sequence[int], kept: Sequence[Bools], total: int | None = None) -> Measured:
    return Measured(sum(cycles) if total is None else total, cycles, list(kept))


def test_room_and_gap() -> None:
    made = Problem([layer(1)], [], lambda kept: measured([1], kept), 1000, margin=0.1)
    assert made.room == 900
    assert made.gap(Measured(850, [], [], most=1010)) == -10
    assert made.gap(Measured(870, [], [], most=900)) == 30
    assert replace(made, limit=999, margin=0.0).gap(Measured(999, [], [])) == 0
    assert made.setting(7) == "pruning.budget=7"


def test_costs_of_layers_that_follow_no_line() -> None:
    """One unit; a layer that gets no cheaper; one that gets cheaper by more than it costs."""
    layers = [layer(1), layer(1, 2, 3), layer(5, 1, 4, 2, 3)]
    seen: list[Rows] = []

    def measure(kept: Sequence[Bools]) -> Measured:
        seen.append([own.ravel().tolist() for own in kept])
        return measured([30, 20, 50] if len(seen) == 1 else [30, 21, 8], kept, 200)

    costs = measure_costs(Problem(layers, [], measure, 0))
    assert seen[0] == [[True], [True] * 3, [True] * 5]
    assert seen[1] == [[True], [False, True, True], [True, False, True, False, True]]
    assert costs.unit == [0.0, 0.0, 21.0]
    assert costs.fixed == [30.0, 20.0, 0.0]
    assert (costs.rest, costs.dense) == (100, 200)


def test_the_smallest_network_keeps_the_best_unit_of_the_first_tiles() -> None:
    grid = np.arange(12).reshape(2, 2, 1, 3)
    saliency = np.zeros((2, 2, 1, 3))
    saliency[0, 0, 0], saliency[0, 1, 0, 0], saliency[1, 0, 0, 0] = (1, 5, 2), 9, 8
    made = Problem(
        [Prunable("a", grid, saliency), layer(1, 2)],
        [Branch({1})],
        lambda kept: measured([1, 1], kept),
        1,
    )
    first, second = smallest(made)
    assert np.flatnonzero(first).tolist() == [1]
    assert first.shape == grid.shape
    assert not second.any()
    assert smallest(replace(made, gone=Branch()))[1].sum() == 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, bool]]:
    """How often a choice compiled, and whether it was filled up, with these cycles from the fourth
    compilation on: after those of the dense, the halved and the smallest network.
    """

    def count(cycles: Sequence[int], limit: int, size: int = 20) -> tuple[int, bool]:
        calls, filled = 0, False

        def measure(kept: Sequence[Bools]) -> Measured:
            nonlocal calls
            calls += 1
            own = [100 + 10 * int(part.sum()) for part in kept]
            if calls > 3:
                own = [cycles[min(calls - 4, len(cycles) - 1)]]
            return Measured(sum(own), own, list(kept))

        def filled_up(problem: Problem, kept: list[Bools], *_: object) -> list[Bools]:
            nonlocal filled
            filled = True
            return kept

        monkeypatch.setattr("gpw_cli.pruning.budget.filled_up", filled_up)
        choose(Problem([layer(*range(1, size + 1))], [], measure, limit))
        return calls, filled

    return count


@pytest.mark.parametrize(
    ("cycles", "calls", "filled"),
    [
        ([200], 4, False),  # at the limit
        ([201], 3 + 28, True),  # never below
        ([199], 3 + 14, False),  # 0.5 % below, and never nearer
        ([194], 3 + 14, False),
        ([193], 3 + 14, True),  # more than 3 % below
        ([190], 3 + 14, True),  # 95 % of it: enough after half of the attempts
        ([189], 3 + 28, True),
        ([150, 200], 5, False),
    ],
)
def test_how_long_the_estimate_is_corrected(
    counted: Callable[..., tuple[int, bool]], cycles: list[int], calls: int, filled: bool
) -> None:
    assert counted(cycles, 200) == (calls, filled)


def test_a_result_within_the_tolerance_is_taken(
    counted: Callable[..., tuple[int, bool]],
) -> None:
    assert counted([996], 1000, 100) == (4, False)
    assert counted([995], 1000, 100) == (3 + 14, False)


def test_a_decided_branch_stays_removed_however_large_the_budget() -> None:
    def measure(kept: Sequence[Bools]) -> Measured:
        cycles = [10 * int(part.sum()) for part in kept]
        return measured(cycles, kept)

    made = Problem([layer(1, 2), layer(3, 4)], [Branch({1})], measure, 1000, gone=Branch({0}))
    kept = choose(made)
    assert [int(part.sum()) for part in kept] == [2, 0]
    assert [int(part.sum()) for part in choose(replace(made, gone=Branch()))] == [2, 2]
    with pytest.raises(UsageError, match=r"still takes 10 cycles; .*pruning\.budget=10"):
        choose(replace(made, limit=9))


def tiles(*gains: float) -> Prunable:
    """Units that are tiles of channels of their own."""
    shape = (len(gains), 1, 1, 1)
    return Prunable("tiles", np.arange(len(gains)).reshape(shape), np.reshape(gains, shape))


def filled(
    gains: Sequence[Sequence[float]],
    cycles: Sequence[Sequence[int]],
    estimate: Sequence[float],
    limit: int,
    kept: Sequence[Sequence[bool]],
    gone: Branch | None = None,
) -> tuple[Rows, int]:
    """The units kept after filling up, and how often that compiled. ``cycles``: the true ones."""
    calls = 0

    def measure(groups: Sequence[Bools]) -> Measured:
        nonlocal calls
        calls += 1
        own = [int(np.dot(part.ravel(), each)) for part, each in zip(groups, cycles, strict=True)]
        return measured(own, groups)

    made = Problem([tiles(*each) for each in gains], [Branch({0})], measure, limit)
    start = [np.reshape(own, (-1, 1, 1, 1)) for own in kept]
    found = filled_up(made, start, Costs(estimate, [0.0] * len(gains), 0.0, 100), gone or Branch())
    return [part.ravel().tolist() for part in found], calls


@pytest.mark.parametrize(
    ("limit", "kept", "calls"),
    [
        (25, [True, True, False, False], 10),
        (20, [True, True, False, False], 3),  # full: nothing is tried any more
        (30, [True, True, True, False], 4),
        (100, [True] * 4, 5),
        (9, [False] * 4, 5),
    ],
)
def test_units_are_added_while_they_fit(limit: int, kept: list[bool], calls: int) -> None:
    found = filled([[4, 3, 2, 1]], [[10] * 4], [10.0], limit, [[False] * 4])
    assert found == ([kept], calls)


def test_a_unit_takes_the_place_of_one_that_is_worth_less() -> None:
    """24 cycles are too many of 18; without the second unit it is 18, and 11 instead of 7."""
    kept, _ = filled([[6, 1, 5]], [[10, 6, 8]], [1.0], 18, [[True, True, False]])
    assert kept == [[True, False, True]]
    less, _ = filled([[6, 1, 1]], [[10, 6, 8]], [1.0], 18, [[True, True, False]])
    assert less == [[True, True, False]]  # no more than before: as it was


def test_the_worth_of_units_follows_the_estimate_and_removed_branches_stay_away() -> None:
    gains, cycles = [[8.0, 8.0], [4.0, 2.0]], [[10, 10], [10, 10]]
    start = [[False, False], [False, False]]
    assert filled(gains, cycles, [10.0, 1.0], 10, start)[0] == [[False] * 2, [True, False]]
    assert filled(gains, cycles, [10.0, 10.0], 10, start)[0] == [[True, False], [False] * 2]
    assert filled(gains, cycles, [1.0, 10.0], 40, start, Branch({0}))[0] == [
        [False] * 2,
        [True] * 2,
    ]
