"""The tables of the page, as plain text cells, and the CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gpw_cli.report.frame import COLUMNS, IDENTITY, Column, unit_columns
from gpw_cli.report.gaps import PAPER, is_papers
from gpw_cli.report.layers import column_label, layer_rows, layer_table
from gpw_cli.report.load import Sweep
from gpw_cli.report.summary import At, curves, dense_levels, differences
from gpw_cli.report.words import percent


@dataclass(frozen=True)
class Table:
    """``note`` stands under the title; the first ``left`` and the last ``right`` columns are text,
    the rest numbers.
    """

    name: str
    title: str
    note: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    right: int = 0


def _csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()


def results_csv(sweep: Sweep) -> str:
    """Every planned run, in the sweep's order, with fixed decimals: the same bytes every time."""
    every = (*IDENTITY, *COLUMNS, *unit_columns(sweep.records.values()))
    columns = [c for c in every if not c.optional or _filled(sweep.frame[c.name])]
    rows = [[_cell(point[c.name], c) for c in columns] for point in sweep.frame.to_dict("records")]
    return _csv([c.name for c in columns], rows)


def _filled(values: pd.Series[Any]) -> bool:
    return bool((values.notna() & (values != "")).any())


def _cell(value: Any, column: Column) -> str:
    if value is None or pd.isna(value):
        return ""
    if column.name == "sparsity":
        return f"{value:.12g}"
    return str(value) if column.digits is None else f"{value:.{column.digits}f}"


def per_layer_csv(sweep: Sweep) -> str:
    """One row per finished run and layer."""
    rows = layer_rows(sweep)
    text = [
        [*map(str, r[:3]), f"{r[3]:.12g}", f"{r[4]:.0f}", *map(str, r[5:10]), f"{r[10]:.6f}"]
        for r in rows.itertuples(index=False, name=None)
    ]
    return _csv(list(rows.columns), text)


def accuracy_table(sweep: Sweep) -> Table:
    """Accuracy of every scheme at every sparsity, with the difference from dense."""
    dense = dict(dense_levels(sweep))
    rows = []
    before = {(c.label, at.x): at for c in curves(sweep.done, "pruned_accuracy") for at in c.points}
    reached = {
        (c.label, at.x): at for c in curves(sweep.done, "sparsity_prunable") for at in c.points
    }
    for curve in curves(sweep.done, "accuracy"):
        base = dense.get(curve.variant, dense.get(""))
        for at in curve.points:
            key = (curve.label, at.x)
            loss = f"{at.mean - base.mean:+.2f}" if base else ""
            got = f"{100 * reached[key].mean:.1f} %" if key in reached else ""
            sparsity = [percent(at.x)] if sweep.under_budgets else [percent(at.x), got]
            cells = [curve.label, *sparsity, _mean(before.get(key)), _mean(at), loss]
            rows.append([*cells, str(at.n)])
    asked = ["scheme", "sparsity"] if sweep.under_budgets else ["scheme", "requested", "reached"]
    head = [*asked, "before fine-tuning", "accuracy (%)", "minus dense"]
    note = "Mean ± standard deviation over seeds. Sparsity of the prunable weights."
    return Table("accuracy", "Accuracy by scheme and sparsity", note, [*head, "seeds"], rows)


def _mean(at: At | None) -> str:
    if at is None:
        return ""
    return f"{at.mean:.2f}" + ("" if at.sd is None else f" ± {at.sd:.2f}")


def difference_table(sweep: Sweep) -> Table:
    """The difference gpw minus block beside the paper's range."""
    rows = []
    papers = is_papers(sweep)
    for gap in differences(sweep.done, "accuracy"):
        for at in gap.points:
            place = "within" if PAPER[0] <= at.mean <= PAPER[1] else "below"
            place = "above" if at.mean > PAPER[1] else place
            mean = _mean(at) if at.mean < 0 else f"+{_mean(at)}"
            cells = [gap.variant or "gpw - block", percent(at.x), mean, str(at.n)]
            rows.append([*cells, place] if papers else cells)
    note = "Percentage points, paired by seed."
    head = ["setting", "sparsity", "difference", "seeds"]
    if papers:
        note += f" The paper's range: {PAPER[0]} to {PAPER[1]}."
        head.append("paper's range")
    return Table("differences", "gpw minus block", note, head, rows, right=int(papers))


def layers_table(sweep: Sweep) -> Table:
    """Sparsity reached, layers down and settings across."""
    table = layer_table(sweep)
    head = ["layer", *(column_label(column) for column in table.columns)]
    rows = [
        [str(name), *("" if pd.isna(v) else f"{100 * v:.1f}" for v in values)]
        for name, values in zip(table.index, table.to_numpy(), strict=True)
    ]
    note = "Percent of the layer's weights, mean over seeds. With group counts in per_layer.csv."
    return Table("per_layer", "Sparsity reached in each layer", note, head, rows)


def failures_table(sweep: Sweep) -> Table:
    """Runs that failed and why."""
    failed = sweep.frame[sweep.frame["status"] == "failed"]
    rows = [[str(p["id"]), str(p["error"])] for p in failed.to_dict("records")]
    note = "The next `gpw sweep` with the same arguments tries them again."
    return Table("failures", "Failed runs", note, ["run", "reason"], rows, left=2)
