from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gpw_cli.cli.pipeline import print_answer
from gpw_cli.report.answer import Answer, answers, cells, pick, table
from gpw_cli.report.counted import apart
from gpw_cli.report.load import load_sweep
from gpw_cli.store.store import Artifact

RESULTS = Path(__file__).resolve().parent.parent / "results"
PAPER = RESULTS / "paper_gpw"
KEPT = "scheme=gpw,sparsity=0.7,scope=layer,seed=0"


def row(name: str, accuracy: float, cycles: float) -> Answer:
    return Answer(
        name, (name,), accuracy, None, 1, 10, None, cycles, cycles / 1e5, None, None, None
    )


def test_the_answer_of_a_committed_sweep() -> None:
    dense, *others = answers(load_sweep(PAPER))
    found = next(row for row in others if row.name == "gpw 70 % (scope layer)")
    assert (found.seeds, found.images) == (3, 10_000)
    assert found.accuracy == pytest.approx(88.66, abs=0.005)
    assert found.loss == pytest.approx(found.accuracy - dense.accuracy)
    assert found.faster == pytest.approx(dense.cycles / found.cycles)
    assert found.milliseconds == pytest.approx(found.cycles / 1e5)
    assert dense.name.startswith("dense")
    assert dense.loss is None


def test_pick_takes_the_best_within_limits() -> None:
    rows = [row("a", 90, 200), row("b", 88, 100), row("c", 85, 90), row("d", 80, 95)]
    assert pick(rows, max_ms=1e-3) is rows[1]
    assert pick(rows, max_cycles=99) is rows[2]
    assert pick(rows, min_accuracy=86) is rows[1]
    assert pick(rows, max_cycles=50) is None


def test_the_fastest_is_so_in_time_on_whatever_clock() -> None:
    slow_clock = replace(row("few cycles", 90, 100), milliseconds=2.0)
    fast_clock = replace(row("little time", 90, 200), milliseconds=1.0)
    assert pick([slow_clock, fast_clock], min_accuracy=80) is fast_clock


def test_a_network_without_a_program_is_trained_not_exported(gpw) -> None:
    found = gpw("pick", str(RESULTS / "engines"), "--min-accuracy", "90", "--json").json
    assert found["network"] == "resnet20 on cifar10, simba"
    assert found["export"] == "gpw run +experiment=engines scheme=gpw target=simba sparsity=0.5"


def test_networks_of_the_same_name_are_compared_only_if_they_are_the_same(gpw) -> None:
    first, other = RESULTS / "paper_fusion", RESULTS / "paper_fusion_resnet56"
    names = [{row.name for row in answers(load_sweep(folder))} for folder in (first, other)]
    assert names[0] & names[1]
    ran = gpw("compare", str(first), str(other))
    assert ran.code == 0
    assert "percentage points against" not in ran.out
    assert "resnet56 on cifar10, vta" in ran.out.splitlines()[-1]


def test_the_table_is_aligned() -> None:
    lines = table([row("a", 90, 200), row("longer", 88.125, 100_000)])
    ends = {line.index("cycles") + 6 if n == 0 else line.index("%") for n, line in enumerate(lines)}
    assert len(ends) == 2
    assert cells(row("a", 90, 1e5))[:5] == ("a", "90.00 %", "", "100,000", "1.000")


def test_pick_and_compare_on_the_command_line(gpw, one_line) -> None:
    found = gpw("pick", str(PAPER), "--max-ms", "1.5")
    assert found.code == 0
    trains = "export (trains it, its weights are not here): gpw simulate +experiment=paper_gpw sch"
    assert trains in found.out
    kept = gpw("pick", str(PAPER), "--max-ms", "1.4", "--json").json["export"]
    assert kept == f"gpw export {PAPER}/points/{KEPT}.json --to program/"
    refused = gpw("pick", str(PAPER), "--max-ms", "0.1")
    assert "the fastest takes" in one_line(refused)
    both = gpw("compare", str(PAPER), str(PAPER))
    assert both.out.count("+0.00 percentage points") == len(answers(load_sweep(PAPER)))


def test_runs_that_differ_in_more_than_the_seed_are_rows_of_their_own() -> None:
    rows = answers(load_sweep(RESULTS / "frontier_ablation"))
    assert [row.seeds for row in rows] == [1] * 12
    assert len({row.name for row in rows}) == 12
    assert {row.loss_of for row in rows} == {"fp32"}  # no dense network was simulated there
    rows = answers(load_sweep(RESULTS / "frontier"))
    assert {row.loss_of for row in rows} == {""}
    assert {row.name: row.seeds for row in rows}["gpw at 72,000 cycles"] == 3


def test_a_dense_network_is_not_faster_than_itself() -> None:
    dense, *others = answers(load_sweep(PAPER))
    assert dense.faster is None
    assert all(row.faster for row in others)
    assert cells(dense)[5] == ""
    assert cells(dense)[7] == f"{dense.bound_cycles:,.0f}"


def test_compare_says_that_other_compilers_counted() -> None:
    paper, frontier = (load_sweep(RESULTS / name) for name in ("paper_gpw", "frontier"))
    assert apart("paper_gpw", paper, "paper_gpw", paper) == ""
    said = apart("paper_gpw", paper, "frontier", frontier)
    assert "the same dense network takes 238,518 and 230,776" in said
    assert "commit 13aba039d24c:" in apart("f", frontier, "r", load_sweep(RESULTS / "removed"))
    assert apart("q", load_sweep(RESULTS / "quantized"), "f", frontier) == ""  # no cycles there


def test_accuracies_of_other_arithmetic_are_marked() -> None:
    (dense,) = answers(load_sweep(RESULTS / "quantized"))
    assert (dense.of, cells(dense)[1]) == ("integers", "90.38 % integers")
    engines = {row.ids[0]: row.of for row in answers(load_sweep(RESULTS / "engines"))}
    assert engines["scheme=gpw,target=nvdla_large,sparsity=0.9"] == "integer reference"
    assert engines["scheme=gpw,target=vta,sparsity=0.9"] == ""
    loaded = answers(load_sweep(RESULTS / "removed"))
    assert [cells(row)[2] for row in loaded] == ["-21.83 (fp32)", "-20.91 (fp32)"]


@pytest.mark.parametrize(("cycles", "said"), [(900, False), (1000, False), (1001, True)])
def test_a_network_above_its_budget_says_so(
    cycles: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {
        "pretrain": {"test_accuracy": 90.0, "n_test": 10_000},
        "prune": {"budget_cycles": 1000},
        "simulate": {
            "test_accuracy": 89.0,
            "n_test": 10_000,
            "cycles": cycles,
            "milliseconds": 0.01,
            "clock_mhz": 100.0,
            "bound_cycles": 800,
            "dram_bytes": 5,
        },
    }
    print_answer({name: cast(Artifact, SimpleNamespace(metrics=m)) for name, m in metrics.items()})
    assert ("1 cycles above the budget of 1,000" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("pruned", "dense", "said"), [(False, 1000, False), (True, 1000, True), (False, 2000, True)]
)
def test_only_a_network_that_may_be_faster_is_compared_with_dense(
    pruned: bool, dense: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint with zero tiles is dense as a configuration, and faster."""
    here = {"cycles": 1000, "dense_cycles": dense, "milliseconds": 0.01, "clock_mhz": 100.0}
    accuracy = {"test_accuracy": 90.0, "n_test": 10}
    metrics = {
        "pretrain": accuracy,
        **({"prune": {}} if pruned else {}),
        "simulate": {**accuracy, **here, "bound_cycles": 800, "dram_bytes": 5},
    }
    print_answer({name: cast(Artifact, SimpleNamespace(metrics=m)) for name, m in metrics.items()})
    assert ("times faster than dense" in capsys.readouterr().out) == said
