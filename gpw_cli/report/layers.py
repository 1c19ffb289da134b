"""What each layer lost: the heatmap, and the rows of ``per_layer.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.frame import dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light
from gpw_cli.report.style import panels
from gpw_cli.report.summary import in_order, scheme_rank
from gpw_cli.report.words import listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANNOTATED = 12  # columns; with more, the numbers are only in the table
NAMED = 30  # columns; with more, the sparsities under them stand upright
UPRIGHT = 5  # more names than these stand upright above their columns
DARK_CELL = 0.6  # from this sparsity on, a cell's number is written in white


def layer_rows(sweep: Sweep) -> pd.DataFrame:
    """One row per finished run and pruned layer, in the network's order."""
    columns = ["id", "scheme", "variant", "sparsity", "seed", "layer", "shape", "grid"]
    rows = []
    for point in sweep.done.to_dict("records"):
        for layer in dig(sweep.records[point["id"]], "stages.prune.layers") or []:
            head = [point[name] for name in columns[:5]]
            sizes = ["x".join(str(n) for n in layer[name]) for name in ("shape", "grid")]
            counts = [layer["groups"], layer["removed"], layer["sparsity"]]
            rows.append([*head, layer["name"], *sizes, *counts])
    return pd.DataFrame(rows, columns=[*columns, "groups", "removed", "reached"])


def layer_table(sweep: Sweep) -> pd.DataFrame:
    """Layers by (scheme, variant, sparsity): the sparsity reached in each, mean over seeds."""
    rows = layer_rows(sweep)
    keys = ["scheme", "variant", "sparsity"]
    table = in_order(rows).pivot_table("reached", "layer", keys, "mean", sort=False)
    return table.reindex(index=list(dict.fromkeys(rows["layer"])))


def column_label(column: Any) -> str:
    """``gpw 50 %`` or ``gpw, scope global 50 %``."""
    scheme, variant, sparsity = column
    return f"{scheme}{', ' if variant else ''}{variant} {percent(sparsity)}"


def draw_layers(sweep: Sweep) -> Figure:
    """Layers down, settings across, darker where more is gone."""
    table = layer_table(sweep)
    names = _names(table.columns.tolist())
    upright = len(names) > UPRIGHT
    longest = max(len(name) for name in names.values())
    room = 4.5 * longest if upright else 26.0 if any("\n" in n for n in names.values()) else 14.0
    height = max(2.3, 1.0 + 0.17 * len(table))  # the scale and the names need room too
    figure, grid = panels(1, 1, [height + (room / 72 if upright else 0)])
    axes = grid[0][0]
    axes.grid(visible=False)
    values = table.to_numpy(dtype=float)
    cells = axes.pcolormesh(
        values, cmap="Blues", vmin=0, vmax=1.15, edgecolors=light("page"), linewidth=1
    )
    axes.invert_yaxis()
    axes.set_yticks([i + 0.5 for i in range(len(table))], list(table.index), fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Sparsity reached in each layer (%)", pad=6 + room)
    if values.shape[1] <= ANNOTATED:
        _annotate(axes, values)
    _name_columns(axes, table.columns.tolist(), names)
    axes.set_xlabel(
        "Sparsity of the prunable weights (%)" if sweep.under_budgets else "Requested sparsity (%)"
    )
    scale = figure.colorbar(cells, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
    scale.ax.set_xlim(0, 1)  # cells stop short of the darkest blue, so that numbers stay readable
    scale.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100"])
    scale.ax.tick_params(labelsize=7.5)
    scale.outline.set_visible(False)
    scale.set_label("Sparsity reached (%)")
    return figure


def _names(columns: Sequence[Any]) -> dict[Any, str]:
    """The name above each run of columns of one (scheme, variant); written upright if there are
    many.
    """
    runs = list(dict.fromkeys(column[:2] for column in columns))
    between = ", " if len(runs) > UPRIGHT else "\n"
    return {run: between.join(part for part in run if part) for run in runs}


def _annotate(axes: Axes, values: object) -> None:
    import numpy as np

    for (row, column), value in np.ndenumerate(np.asarray(values)):
        if not np.isnan(value):
            colour = "#fdfdfd" if value >= DARK_CELL else "#111111"  # no role: cells stay light
            text = f"{100 * value:.0f}"
            place = (column + 0.5, row + 0.5)
            axes.annotate(text, place, ha="center", va="center", fontsize=7.5, color=colour)


def _name_columns(axes: Axes, columns: Sequence[Any], names: dict[Any, str]) -> None:
    """The sparsity under each column (where they fit), scheme and variant above each run."""
    few = len(columns) <= NAMED
    axes.set_xticks(
        [i + 0.5 for i in range(len(columns))],
        [f"{100 * c[2]:.3g}" for c in columns],
        fontsize=8.5 if len(columns) <= 20 else 6.5 if few else min(6.0, 260 / len(columns)),
        rotation=0 if few else 90,
    )
    upright = len(names) > UPRIGHT
    for run, name in names.items():
        places = [i for i, c in enumerate(columns) if c[:2] == run]
        if places[0]:
            axes.axvline(places[0], color=light("page"), linewidth=5)
        axes.annotate(
            name,
            ((places[0] + places[-1] + 1) / 2, 0),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90 if upright else 0,
            fontsize=7.0 if upright else 8.5,
            fontweight="bold",
        )


def layers_caption(sweep: Sweep) -> str:
    """How far layers are from the sparsity of the run, and how many lost all weights."""
    rows = layer_rows(sweep)
    whole = "sparsity of all prunable weights" if sweep.under_budgets else "requested sparsity"
    off = rows.assign(off=(rows["reached"] - rows["sparsity"]).abs())
    parts = []
    for scheme, found in sorted(off.groupby("scheme"), key=lambda item: scheme_rank(str(item[0]))):
        worst = found.sort_values("off", ascending=False, kind="stable").iloc[0]
        most = f"{100 * worst['off']:.1f} percentage points"
        text = f"{scheme} is at most {most} from the {whole}"
        where = f"{worst['layer']}, {percent(worst['reached'])} for {percent(worst['sparsity'])}"
        gone = found[found["reached"] >= 1]["layer"].nunique()
        vanished = f"; {gone} of {found['layer'].nunique()} layers lose every weight in some run"
        parts.append(f"{text} ({where}){vanished if gone else ''}")
    groups = rows.groupby("scheme")["groups"].agg(["min", "max"])
    sizes = [
        f"{scheme} has {low:,} to {high:,}" if low != high else f"{scheme} has {low:,}"
        for scheme, low, high in groups.itertuples()
    ]
    return f"{'. '.join(parts)}. Groups per layer: {listed(sizes)}."
