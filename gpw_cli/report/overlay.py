"""Accuracy on the NPU against what a network costs, with every variant of a sweep on the same axes.
One panel per cost: cycles (with milliseconds above if all have the same clock), milliseconds if
clocks differ, DRAM bytes. Colour and marker show the scheme, fill and line style the variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpw_cli.report.draw import EndLabel, name_points
from gpw_cli.report.frontier import clock_ratio, clocks_differ, network_name, networks
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import DASHES, light, look
from gpw_cli.report.style import add_tips, panels
from gpw_cli.report.summary import pareto, scheme_rank
from gpw_cli.report.words import npu_name, percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FILLS = ("full", "none", "left", "right", "bottom", "top")  # of markers, one a variant


@dataclass(frozen=True)
class Cost:
    """One panel: ``column`` of ``networks``, times ``factor``, under the name ``label``."""

    column: str
    label: str
    factor: float = 1.0


def costs(found: pd.DataFrame) -> list[Cost]:
    """The costs to draw: cycles, and others that are known and differ."""
    shown = [_scaled(found, "cycles", "cycles")]
    if clocks_differ(found):
        shown.append(Cost("milliseconds", "ms per image"))
    if found["dram_bytes"].nunique() > 1:
        shown.append(_scaled(found, "dram_bytes", "DRAM bytes"))
    return shown


def _scaled(found: pd.DataFrame, column: str, noun: str) -> Cost:
    """In thousands or millions, as the largest value needs."""
    large = found[column].max() >= 1e6
    unit = "Million" if large else "Thousand"
    return Cost(column, f"{unit} {noun} per image", 1e-6 if large else 1e-3)


def draw_overlay(sweep: Sweep) -> Figure:
    """All networks of the sweep in each panel, with the Pareto front of that cost."""
    found = networks(sweep)
    pruned = sweep.done[sweep.done["scheme"] != "dense"]
    variants = list(dict.fromkeys(pruned["variant"]))  # in the order of the sweep
    shown = costs(found)
    figure, grid = panels(len(shown), 1, [3.5] + [2.7] * (len(shown) - 1))
    panes = [row[0] for row in grid]
    fronts = []
    for axes, cost in zip(panes, shown, strict=True):
        fronts.append(_draw_cost(axes, found, cost, variants))
        axes.set_xlabel(cost.label)
    panes[0].set_title(f"Test accuracy on {npu_name(sweep)} (%)")
    _milliseconds(panes[0], found, shown[0])
    for axes in panes:
        axes.set_ylim(*panes[0].get_ylim())
    handles = [*_scheme_handles(found), *_variant_handles(variants), *_line_handles()]
    place: Any = {"loc": "outside lower center", "frameon": False, "fontsize": 7.5}
    figure.legend(handles=handles, ncols=_columns(handles), **place)
    for axes, cost, front in zip(panes, shown, fronts, strict=True):
        _name_front(axes, found, cost, front)
    return figure


def _draw_cost(
    axes: Axes, found: pd.DataFrame, cost: Cost, variants: Sequence[str]
) -> pd.DataFrame:
    """Draw one panel; returns the rows of its front."""
    known = found.dropna(subset=[cost.column])
    pairs = list(zip(known[cost.column].tolist(), known["accuracy"].tolist(), strict=True))
    front = known.iloc[pareto(pairs)]
    x = front[cost.column] * cost.factor
    axes.step(x, front["accuracy"], where="post", color=light("grey"), linewidth=2.0, zorder=1)
    if cost.column == "cycles":
        _draw_bounds(axes, known, cost)
    keys = known[["scheme", "variant"]].drop_duplicates().itertuples(index=False, name=None)
    for scheme, variant in sorted(keys, key=lambda key: scheme_rank(key[0])):
        own = known[(known["scheme"] == scheme) & (known["variant"] == variant)]
        place = variants.index(variant) if scheme != "dense" and variant in variants else 0
        _draw_series(axes, own.sort_values(cost.column), cost, place)
    axes.margins(0.07)
    return front


def _draw_bounds(axes: Axes, known: pd.DataFrame, cost: Cost) -> None:
    low, high = known["bound_cycles"] * cost.factor, known["cycles"] * cost.factor
    axes.hlines(known["accuracy"], low, high, color=light("muted"), linewidth=0.9)
    axes.plot(low, known["accuracy"], color=light("muted"), linestyle="", marker="|", markersize=5)


def _draw_series(axes: Axes, own: pd.DataFrame, cost: Cost, place: int) -> None:
    """The networks of one scheme and variant, by rising cost; ``place`` of the variant."""
    scheme = str(own["scheme"].iloc[0])
    drawn, x = look("scheme", scheme), own[cost.column] * cost.factor
    fill = FILLS[place % len(FILLS)]
    axes.errorbar(
        x,
        own["accuracy"],
        yerr=own["sd"].fillna(0.0) if own["sd"].notna().any() else None,
        color=drawn.colour,
        linestyle="" if scheme == "dense" else DASHES[place % len(DASHES)],
        linewidth=0.8,
        marker=drawn.marker,
        markersize=9 if scheme == "dense" else 5,
        fillstyle=fill,
        markerfacecoloralt=light("page"),
        capsize=2.5,
        elinewidth=1.0,
        zorder=3,
    )
    places = zip(x, own["accuracy"], own.to_dict("records"), strict=True)
    add_tips(axes, [(at, y, tip_of(row)) for at, y, row in places])


def tip_of(row: dict[Any, Any]) -> str:
    """The text that the pointer shows for a row of ``networks``."""
    spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
    parts = [f"{row['accuracy']:.2f}{spread} %", f"{row['cycles']:,.0f} cycles"]
    parts += [] if pd.isna(row["milliseconds"]) else [f"{row['milliseconds']:.3f} ms"]
    parts += [] if pd.isna(row["dram_bytes"]) else [f"{row['dram_bytes']:,.0f} DRAM bytes"]
    return f"{network_name(row)}: {', '.join(parts)} ({plural(row['n'], 'seed')})"


def _milliseconds(axes: Axes, found: pd.DataFrame, cost: Cost) -> None:
    """A second axis in ms above, where one clock holds for all networks."""
    ratio = clock_ratio(found)
    if ratio is None:
        return
    scale = ratio / cost.factor
    above = axes.secondary_xaxis(
        "top", functions=(partial(np.multiply, scale), partial(np.multiply, 1 / scale))
    )
    above.set_xlabel("ms per image", fontsize=8.5)
    above.tick_params(labelsize=7.5)


def _handle(label: str, **style: Any) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def _scheme_handles(found: pd.DataFrame) -> list[Line2D]:
    handles = []
    for scheme in sorted(set(found["scheme"]), key=scheme_rank):
        drawn = look("scheme", scheme)
        size = 9 if scheme == "dense" else 5
        style: Any = {"color": drawn.colour, "marker": drawn.marker, "markersize": size}
        handles.append(_handle(scheme, linestyle="", **style))
    return handles


def _variant_handles(variants: Sequence[str]) -> list[Line2D]:
    """How each variant is drawn, if there are several."""
    if len(variants) < 2:
        return []
    fixed: Any = {"color": light("ink"), "markerfacecoloralt": light("page"), "linewidth": 0.8}
    return [
        _handle(
            variant or "as it comes",
            marker="o",
            fillstyle=FILLS[place % len(FILLS)],
            linestyle=DASHES[place % len(DASHES)],
            **fixed,
        )
        for place, variant in enumerate(variants)
    ]


def _line_handles() -> list[Line2D]:
    tick: Any = {"linestyle": "", "marker": "|", "markersize": 6}
    return [
        _handle("Pareto front", color=light("grey"), linewidth=2.0),
        _handle("bound of the hardware", color=light("muted"), **tick),
    ]


def _columns(handles: Sequence[Line2D]) -> int:
    """As many columns as the longest name leaves room for."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(4, 88 // (longest + 8)))


def _name_front(axes: Axes, found: pd.DataFrame, cost: Cost, front: pd.DataFrame) -> None:
    """The sparsity beside every network of the front, the name beside each of several dense."""
    dense = found[found["scheme"] == "dense"]
    named = pd.concat([front, dense]).drop_duplicates(["scheme", "variant", "sparsity"])
    names = [
        EndLabel(
            row[cost.column] * cost.factor,
            row["accuracy"],
            _short(row, len(dense)),
            look("scheme", row["scheme"]).colour,
        )
        for row in named.dropna(subset=[cost.column]).to_dict("records")
    ]
    places = zip(found[cost.column] * cost.factor, found["accuracy"], strict=True)
    name_points(axes, [name for name in names if name.text], list(places))


def _short(row: dict[Any, Any], dense: int) -> str:
    if row["scheme"] != "dense":
        return percent(round(row["sparsity"], 3))
    return str(row["variant"]) if dense > 1 else ""
