from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from gpw_cli.cli.pipeline import print_answer
from gpw_cli.report.answer import Answer, answers, cells, pick, table
from gpw_cli.report.load import load_sweep
from gpw_cli.store.store import Artifact

PAPER = Path(__file__).resolve().parent.parent / "results" / "paper_gpw"
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
