"""A budget is used within 3 %, or as far as whole units of the target allow, on real compilers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gpw_cli.arrays import Bools
from gpw_cli.config.compose import compose
from gpw_cli.errors import UsageError
from gpw_cli.pruning.budget import Measured, Problem, choose, measure_costs, smallest
from gpw_cli.pruning.fill import filled_up, saliency_of
from gpw_cli.stages.untrained import problem_untrained, untrained_costs, untrained_network
from tests.test_budget import problem as made


@cache
def digits(scheme: str, target: str, budget: int) -> Problem:
    """The problem of the untrained ``digits_cnn``, whose weights follow from the seed."""
    overrides = [f"scheme={scheme}", f"target={target}", f"pruning.budget={budget}"]
    config = compose(["model=digits_cnn", "data=digits", "scope=cycles", *overrides])
    model = untrained_network(config)
    return problem_untrained(config, model, untrained_costs(config, model))


def unit_counts(problem: Problem, kept: Sequence[Bools]) -> list[int]:
    """The units with a kept group, for each layer."""
    pairs = zip(problem.layers, kept, strict=True)
    return [len(np.unique(layer.units[own])) for layer, own in pairs]


@pytest.mark.parametrize(
    ("scheme", "target", "budget"),
    [
        ("gpw", "vta", 15313),
        ("fine", "vta", 20064),
        ("block", "vta", 11375),
        ("gpw", "nvdla_small", 30242),
        ("block", "nvdla_small", 50985),
        ("channel", "nvdla_small", 48545),
        ("gpw", "nvdla_large", 7976),
        ("gpw", "maeri", 16903),
        ("block", "maeri", 31133),
        ("channel", "maeri", 9876),
        ("block", "eie", 15632),
    ],
)
def test_a_small_network_uses_its_budget_within_3_percent(
    scheme: str, target: str, budget: int
) -> None:
    problem = digits(scheme, target, budget)
    cycles = problem.measure(choose(problem)).cycles
    assert 0.97 * budget <= cycles <= budget


def test_what_is_left_unused_is_less_than_a_whole_unit() -> None:
    problem = digits("channel", "vta", 15894)  # 4, 4 and 6 units of 16 channels
    kept = choose(problem)
    measured = problem.measure(kept)
    assert measured.cycles == 14808
    assert unit_counts(problem, kept) == [3, 2, 6]
    for index, layer in enumerate(problem.layers):
        for unit in set(np.unique(layer.units)) - set(np.unique(layer.units[kept[index]])):
            more = [
                own | (layer.units == unit) if n == index else own for n, own in enumerate(kept)
            ]
            assert problem.measure(more).cycles > problem.room


def test_filling_starts_from_any_choice_and_only_adds_saliency() -> None:
    problem = made([20, 20], [5, 5], [10, 60], [], 300)
    start = smallest(problem)
    kept = filled_up(problem, start, measure_costs(problem), frozenset())
    assert problem.measure(start).cycles == 100 + 10 + 60 + 2 * 5
    assert problem.measure(kept).cycles == 300
    assert saliency_of(problem, kept) > 5 * saliency_of(problem, start)
    assert all((own >= before).all() for own, before in zip(kept, start, strict=True))


def test_a_removed_branch_stays_removed() -> None:
    small = made([6, 6], [10, 10], [50, 50], [frozenset({1})], 200)
    kept = filled_up(small, smallest(small), measure_costs(small), frozenset({0}))
    assert [int(own.sum()) for own in kept] == [5, 0]
    assert small.measure(kept).cycles == 200


def test_a_sparsity_with_a_budget_is_refused() -> None:
    with pytest.raises(UsageError, match=r"sparsity=0\.8 has no effect with scope=cycles"):
        compose(["scope=cycles", "pruning.budget=9000", "sparsity=0.8"])


def test_nothing_is_filled_where_the_reserve_leaves_no_room() -> None:
    problem = made([20, 20], [5, 5], [10, 10], [], 300)
    compiled = []

    def measure(kept: Sequence[Bools]) -> Measured:
        """Fine-tuning may add 20 % to the cycles."""
        found = problem.measure(kept)
        compiled.append(found.cycles)
        return replace(found, most=found.cycles * 6 // 5)

    reserved = replace(problem, measure=measure)
    kept = choose(reserved)
    assert problem.measure(kept).cycles == 250  # 300 at most
    before = len(compiled)
    assert filled_up(reserved, kept, measure_costs(problem), frozenset())[0].sum() == kept[0].sum()
    assert len(compiled) == before + 1
