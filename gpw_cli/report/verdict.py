"""What a sweep has shown: how much faster for how much accuracy, as a sentence and as a table.

    answer_sentence(sweep)      # "Within 3 percentage points of dense the fastest is gpw at ..."

The table is the one that ``gpw sweep`` prints, under the same names.
"""

from __future__ import annotations

from gpw_cli.report.answer import HEAD, Answer, answers, cells
from gpw_cli.report.load import Sweep
from gpw_cli.report.tables import Table
from gpw_cli.report.words import times_faster

POINTS = 3.0  # percentage points


def answer_sentence(sweep: Sweep) -> str:
    """The fastest pruned network that loses at most ``POINTS`` against dense, "" if none was timed.

    Hypothetical hardware counts only where there is no other.
    """
    if not (sweep.has("cycles") and sweep.has("npu_accuracy")):
        return ""
    compared = [row for row in answers(sweep) if row.faster and row.loss is not None]
    supposed = sweep.done[sweep.done["hypothetical"].notna()]["id"]
    real = [row for row in compared if not set(row.ids) & set(supposed)]
    near = [row for row in real or compared if _lost(row) <= POINTS]
    if not compared:
        return ""
    if not near:
        return f"No pruned network is within {POINTS:g} percentage points of dense."
    best = max(near, key=lambda row: row.faster or 0.0)
    faster = times_faster(best.faster or 0.0) + ("" if real else " (hypothetical)")
    return (
        f"Within {POINTS:g} percentage points of dense the fastest is {best.name}: {faster} "
        f"{_for(_lost(best))}{f' against {best.loss_of}' if best.loss_of != best.of else ''}."
    )


def _lost(row: Answer) -> float:
    return round(-(row.loss or 0.0), 2)


def _for(lost: float) -> str:
    if lost > 0:
        return f"for {lost:.2f} percentage points"
    return f"and {-lost:.2f} percentage points more accurate" if lost < 0 else "without loss"


def answer_table(sweep: Sweep) -> Table:
    """A row per network, the dense ones first, as ``gpw sweep`` prints it."""
    note = (
        "Mean over seeds ± standard deviation. Against dense: in percentage points. Cycles, "
        "milliseconds at the target's clock and DRAM bytes are of one image; the bound is the "
        "cycles of the busiest unit. gpw pick finds the best of them within limits."
    )
    rows = [cells(row) for row in answers(sweep)]
    return Table("answer", "Networks", note, HEAD, rows)
