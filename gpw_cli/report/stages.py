"""Accuracy from stage to stage: dense, pruned, fine-tuned, integers, fused, on the NPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from gpw_cli.report.draw import EndLabel, label_ends
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light, look, ramp
from gpw_cli.report.style import add_tips, panels
from gpw_cli.report.summary import in_order, main_variant, scheme_rank
from gpw_cli.report.tables import Table
from gpw_cli.report.words import basis, listed, npu_name, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# column of the frame, name in the figure, name in the table; the last are the target's
STAGES = (
    ("dense_accuracy", "dense", "dense fp32"),
    ("pruned_accuracy", "pruned", "pruned"),
    ("accuracy", "tuned", "fine-tuned"),
    ("quantized_accuracy", "integers", "integers, unfused"),
    ("fused_accuracy", "fused", "fused"),
    ("npu_accuracy", "", ""),
)
TICKS = (-1, 0, 1, 2, 5, 10, 20, 50, 100)  # percentage points below dense


def by_stage(sweep: Sweep) -> pd.DataFrame:
    """One row per (scheme, variant, sparsity): the mean accuracy (%) of each stage, the ``sd`` of
    the last one measured and the number ``n`` of runs. Columns of STAGES that no run has are left
    out.
    """
    rows = in_order(sweep.done)
    shown = [column for column, *_ in STAGES if sweep.has(column)]
    grouped = rows.groupby(["scheme", "variant", "sparsity"], sort=False, dropna=False)
    found = grouped[shown].mean()
    found["sd"] = grouped[shown[-1]].std()
    found["n"] = grouped.size()
    return found.dropna(subset=[shown[-1]]).reset_index()


def _shown(found: pd.DataFrame) -> list[tuple[str, str, str]]:
    return [stage for stage in STAGES if stage[0] in found]


def draw_stages(sweep: Sweep) -> Figure:
    """One panel per scheme and one line per sparsity: percentage points below dense, stage by
    stage.
    """
    shown, only = main_variant(sweep)
    found = by_stage(shown)
    names = [name or npu_name(sweep) for _, name, _ in _shown(found)]
    schemes = sorted(set(found["scheme"]) - {"dense"}, key=scheme_rank) or ["dense"]
    across = min(2, len(schemes))
    down = -(-len(schemes) // across)
    figure, grid = panels(down, across, [2.5] * down)
    levels = sorted(found[found["scheme"] != "dense"]["sparsity"].unique())
    labels = []
    for place, scheme in enumerate(schemes):
        axes = grid[place // across][place % across]
        own = found[found["scheme"].isin([scheme, "dense"])]
        labels.append((axes, _draw_scheme(axes, own, levels, names)))
        axes.set_title(f"{scheme}{only}" if len(schemes) == 1 else scheme)
        axes.set_xlim(-0.3, len(names) - 1 + 0.85 * across)  # room for names at the right
    for place in range(len(schemes), down * across):
        grid[place // across][place % across].set_axis_off()
    _scale([axes for axes, _ in labels])
    for row in grid:
        row[0].set_ylabel("Percentage points below dense", fontsize=8)
    for axes, ends in labels:
        label_ends(axes, ends, size=7.5)
    return figure


def _draw_scheme(
    axes: Axes, own: pd.DataFrame, levels: Sequence[float], names: Sequence[str]
) -> list[EndLabel]:
    """Returns the labels for the ends of the lines."""
    ends = []
    for row in own.to_dict("records"):
        dense = row["scheme"] == "dense"
        losses = [row["dense_accuracy"] - row[column] for column, *_ in _shown(own)]
        points = [(x, loss) for x, loss in enumerate(losses) if not math.isnan(loss)]
        if not points:  # the dense network's accuracy is not known
            continue
        colour = light("ink" if dense else ramp(levels, row["sparsity"]))
        x, y = [x for x, _ in points], [_height(loss) for _, loss in points]
        marker = look("scheme", row["scheme"]).marker
        axes.plot(x, y, color=colour, marker=marker, linewidth=1.1, markersize=4)
        name = "dense" if dense else percent(round(row["sparsity"], 3))
        tips = [
            (x, _height(loss), f"{name}, {names[x]}: {row['dense_accuracy'] - loss:.2f} %")
            for x, loss in points
        ]
        add_tips(axes, tips)
        ends.append(EndLabel(x[-1], y[-1], name, colour))
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=35, ha="right")
    return ends


def _height(loss: float) -> float:
    """Where a loss is drawn: linear near 0, by its logarithm far from it; more loss is lower."""
    return -math.asinh(loss)


def _scale(panes: Sequence[Axes]) -> None:
    low = min(axes.get_ylim()[0] for axes in panes)
    high = max(axes.get_ylim()[1] for axes in panes)
    ticks = [tick for tick in TICKS if low <= _height(tick) <= high]
    for axes in panes:
        axes.set_ylim(low, high)
        axes.set_yticks(
            [_height(tick) for tick in ticks], [str(tick) for tick in ticks], fontsize=7.5
        )


def stages_caption(sweep: Sweep) -> str:
    """What each step changes, over all runs."""
    columns = [(column, name or table) for column, name, table in STAGES if sweep.has(column)]
    parts = []
    for (before, _), (after, name) in pairwise(columns[1:]):
        change = (sweep.done[after] - sweep.done[before]).dropna().tolist()
        if change:
            what = name or npu_name(sweep)
            parts.append(f"{what} {_signed(change)}")
    text = f"Change at each stage over all runs, in percentage points: {listed(parts)}."
    _, only = main_variant(sweep)
    variant = f" Drawn{only.replace(', ', ': ', 1)}." if only else ""
    return f"{text}{variant} {basis(sweep)}"


def _signed(values: Sequence[float]) -> str:
    low, high = f"{min(values):+.2f}", f"{max(values):+.2f}"
    return low if low == high else f"{low} to {high}"


def stages_table(sweep: Sweep) -> Table:
    """Every network at every stage, and what it lost from fp32 to the last."""
    found = by_stage(sweep)
    shown = _shown(found)
    last = shown[-1][0]
    rows = []
    for row in found.to_dict("records"):
        fp32 = row.get("dense_accuracy" if row["scheme"] == "dense" else "accuracy", math.nan)
        lost = "" if pd.isna(fp32) else f"{row[last] - fp32:+.2f}"
        values = ["" if pd.isna(row[c]) else f"{row[c]:.2f}" for c, *_ in shown]
        values[-1] += "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
        name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
        sparsity = "" if row["scheme"] == "dense" else percent(round(row["sparsity"], 4))
        rows.append([name, sparsity, *values, lost, str(row["n"])])
    names = [table or f"on {npu_name(sweep)}" for *_, table in shown]
    head = ["scheme", "sparsity", *names, "minus fp32", "seeds"]
    note = "Test accuracy in percent, mean over seeds, ± one standard deviation of the last stage."
    return Table("stages", "Accuracy by stage", note, head, rows)
