from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpw_cli.config.grid import decimal_range, expand, product, values
from gpw_cli.errors import UsageError
from gpw_cli.sweep.plan import Request, plan_sweep


def test_range_is_inclusive_and_exact() -> None:
    assert decimal_range("0.5:0.9") == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    assert decimal_range("0.1:0.3:0.1") == ["0.1", "0.2", "0.3"]
    assert decimal_range("0.50:0.60") == [f"0.{n}".rstrip("0") for n in range(50, 61)]
    assert decimal_range("3:3") == ["3"]
    assert decimal_range("1:10:3") == ["1", "4", "7", "10"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("0.5:0.9:0.3", "misses 0.9"),
        ("0.9:0.5", "lo <= hi"),
        ("0.1:0.5:0", "step above 0"),
        ("0:1:0.00001", "at most"),
        ("0.5:x", "no range"),
    ],
)
def test_bad_ranges_say_why(text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        decimal_range(text)


@given(st.integers(0, 500), st.integers(0, 60), st.integers(1, 50), st.integers(0, 4))
def test_range_has_every_step_and_both_ends(low: int, count: int, step: int, digits: int) -> None:
    scale = Decimal(1).scaleb(-digits)
    lo, hi, by = low * scale, (low + count * step) * scale, step * scale
    found = [Decimal(text) for text in decimal_range(f"{lo:f}:{hi:f}:{by:f}")]
    assert found == [lo + index * by for index in range(count + 1)]


def test_default_axis_is_block_against_gpw_beside_the_dense_network() -> None:
    fixed, axes = expand(["sparsity=0.5:0.6", "data=digits"])
    assert fixed == ["data=digits"]
    assert axes == {"scheme": ["dense", "block", "gpw"], "sparsity": ["0.5", "0.6"]}
    points = product(axes)
    assert [point["scheme"] for point in points] == ["dense", "block", "block", "gpw", "gpw"]
    assert points[0] == {"scheme": "dense"}
    seeded = product({**axes, "seed": ["0", "1"]})
    assert [p["seed"] for p in seeded if p["scheme"] == "dense"] == ["0", "1"]
    assert expand(["scheme=fine"]) == (["scheme=fine"], {})


def test_lists_keep_order_and_drop_repeats() -> None:
    assert values("a,b,a") == ["a", "b"]
    assert values("0.9,0.5:0.7") == ["0.9", "0.5", "0.6", "0.7"]
    assert values("[1,2]") == ["[1,2]"]
    with pytest.raises(UsageError, match="empty value"):
        values("a,,b")


def test_one_setting_is_not_both_fixed_and_swept() -> None:
    with pytest.raises(UsageError, match=r"pruning\.sparsity and sparsity are the same setting"):
        expand(["pruning.sparsity=0.7", "sparsity=0.5:0.9"])
    assert expand(["bits=8", "quantizer.weight_bits=4:8"])[0] == ["bits=8"]


def test_an_axis_may_be_a_setting_that_is_required() -> None:
    budgets = ("scheme=gpw", "scope=cycles", "pruning.budget=9000,12000")
    planned = plan_sweep(Request(["data=digits", *budgets]))
    assert [point.config.pruning.budget for point in planned.points] == [
        0,
        9000,
        12000,
    ]  # dense first
