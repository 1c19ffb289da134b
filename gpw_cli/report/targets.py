"""Several NPUs side by side: how much faster pruning makes each, and what it costs in accuracy.

Drawn only for sweeps over ``target``. Each NPU is compared with the dense network on itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from gpw_cli.report.draw import EndLabel, label_ends
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import look, rank
from gpw_cli.report.style import add_tips, panels
from gpw_cli.report.words import basis, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Series:
    """One NPU: ``y`` and ``bound`` at the sparsities ``x`` (0 to 1); ``bound`` may be empty."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    bound: Sequence[float] = ()


def several(sweep: Sweep) -> bool:
    """Whether the finished runs are for more than one NPU."""
    return int(sweep.done["target"].nunique()) > 1


def draw_targets(sweep: Sweep) -> Figure:
    """Times faster than dense above, accuracy of the pruned networks below."""
    faster = speedups(sweep.done)
    found = [series for series in accuracies(sweep.done) if series.x]
    heights = [2.9, 2.3][: 2 if found else 1]
    figure, grid = panels(len(heights), 1, heights)
    draw_series(grid[0][0], faster)
    grid[0][0].set(title="Times faster than dense on the same NPU (bound dotted)")
    grid[0][0].set_ylim(bottom=0)
    if found:
        draw_series(grid[1][0], found)
        grid[1][0].set(title="Test accuracy of the integers (%)")
    grid[-1][0].set_xlabel("Sparsity (%)")
    figure.draw_without_rendering()
    for row, drawn in zip(grid, (faster, found), strict=False):
        name_series(row[0], drawn)
    return figure


def speedups(frame: pd.DataFrame) -> list[Series]:
    """Times faster than dense, for every NPU with a dense run; means over seeds of gpw only."""
    result = []
    for name, rows in frame.dropna(subset=["cycles"]).groupby("target", sort=False):
        dense = rows[rows["sparsity"] == 0][["cycles", "bound_cycles"]].mean()
        gpw = rows[(rows["scheme"] == "gpw") & (rows["sparsity"] > 0)]
        pruned = gpw.groupby("sparsity")[["cycles", "bound_cycles"]]
        means = pruned.mean()
        if pd.isna(dense["cycles"]) or means.empty:
            continue
        result.append(
            Series(
                str(name),
                [0.0, *(float(str(x)) for x in means.index)],
                [1.0, *(float(v) for v in dense["cycles"] / means["cycles"])],
                [1.0, *(float(v) for v in dense["bound_cycles"] / means["bound_cycles"])],
            )
        )
    return sorted(result, key=lambda series: rank("target", series.name))


def accuracies(frame: pd.DataFrame) -> list[Series]:
    """Accuracy of gpw and the dense network on every NPU; means over seeds."""
    result = []
    for name, rows in frame.dropna(subset=["npu_accuracy"]).groupby("target", sort=False):
        own = rows[rows["scheme"].isin(("gpw", "dense"))].groupby("sparsity")["npu_accuracy"]
        means = own.mean()
        x = [float(str(value)) for value in means.index]
        result.append(Series(str(name), x, [float(value) for value in means]))
    return sorted(result, key=lambda series: rank("target", series.name))


def draw_series(axes: Axes, found: Sequence[Series]) -> None:
    """Lines with markers in the look of each NPU; bounds dotted."""
    ticks = sorted({100 * x for series in found for x in series.x})
    if not ticks:  # another scheme's sweep: the pane stays empty
        return
    for series in found:
        own, x = look("target", series.name), [100 * value for value in series.x]
        axes.plot(x, series.y, color=own.colour, marker=own.marker)
        tips = [
            (at, y, f"{series.name} at {at:.4g} %: {y:.4g}")
            for at, y in zip(x, series.y, strict=True)
        ]
        add_tips(axes, tips)
        if series.bound:
            axes.plot(x, series.bound, color=own.colour, linewidth=0.9, linestyle=":")
    width = ticks[-1] - ticks[0] or 10.0
    axes.set_xlim(ticks[0] - 0.04 * width, ticks[-1] + 0.36 * width)
    axes.set_xticks(ticks, [f"{tick:.4g}" for tick in ticks])


def name_series(axes: Axes, found: Sequence[Series]) -> None:
    """Write each name at the right end of its line. Call it when the limits are final."""
    ends = [EndLabel(100 * s.x[-1], s.y[-1], s.name, look("target", s.name).colour) for s in found]
    label_ends(axes, ends, 8.0)


def targets_caption(sweep: Sweep) -> str:
    """The speed-up of each NPU at its highest sparsity, and which of them are hypothetical."""
    parts = [
        f"{s.name}: {s.y[-1]:.2f} times faster at {percent(s.x[-1])} (its bound {s.bound[-1]:.2f})"
        for s in speedups(sweep.done)
    ]
    supposed = dict.fromkeys(sweep.done[sweep.done["hypothetical"].notna()]["target"])
    names = [name for name in supposed if isinstance(name, str)]
    remark = ""
    if names:
        remark = (
            f" Hypothetical: the stock hardware of {listed(names)} skips no zero tiles, so its "
            "cycles stay the dense ones."
        )
    return f"{'; '.join(parts)}.{remark} {basis(sweep)}"
