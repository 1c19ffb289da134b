"""Accuracy on the NPU against cycles: every network of the sweep, and which of them is worth it.

Seeds are averaged; a network is on the Pareto front when no other is at least as fast and more
accurate.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpw_cli.report.draw import EndLabel, name_points, same_limits
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import MARKERS, add_tips, light, panels, scheme_colour
from gpw_cli.report.summary import dense_of, pareto, scheme_rank
from gpw_cli.report.tables import Table
from gpw_cli.report.words import basis, cycle_unit, listed, npu_name, percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def networks(sweep: Sweep) -> pd.DataFrame:
    """A row a (scheme, variant, sparsity): mean ``cycles``, ``bound_cycles`` and ``accuracy`` (%)
    over seeds, its ``sd``, the number ``n`` of seeds, and ``front``.
    """
    rows = sweep.done.dropna(subset=["cycles", "npu_accuracy"])
    found = (
        rows.groupby(["scheme", "variant", "sparsity"], sort=False)
        .agg(
            cycles=("cycles", "mean"),
            bound_cycles=("bound_cycles", "mean"),
            milliseconds=("milliseconds", "mean"),
            accuracy=("npu_accuracy", "mean"),
            sd=("npu_accuracy", "std"),
            n=("npu_accuracy", "size"),
        )
        .reset_index()
    )
    pairs = list(zip(found["cycles"].tolist(), found["accuracy"].tolist(), strict=True))
    chosen = pareto(pairs)
    front = found.iloc[chosen].assign(front=True)
    rest = found.drop(found.index[chosen]).assign(front=False)
    return pd.concat([front, rest], ignore_index=True)


def draw_frontier(sweep: Sweep) -> Figure:
    """A panel a variant: its networks, the hardware's bound left of each, and the Pareto front of
    all variants as a line.
    """
    found = networks(sweep)
    pruned = set(found[found["scheme"] != "dense"]["variant"])
    variants = [v for v in dict.fromkeys(sweep.done["variant"]) if v in pruned] or [""]
    several = len(variants) > 1
    figure, grid = panels(len(variants), 1, [2.7 if several else 4.0] * len(variants))
    factor, unit = cycle_unit(found["cycles"].max())
    scaled = found.assign(
        cycles=found["cycles"] * factor,
        bound_cycles=found["bound_cycles"] * factor,
        unit=unit.lower(),
    )
    panes, title = [row[0] for row in grid], f"Test accuracy on {npu_name(sweep)} (%)"
    for pane, variant in zip(panes, variants, strict=True):
        pane.set(title=f"{title}: {variant}" if variant else title)
        pruned = (scaled["variant"] == variant) & (scaled["scheme"] != "dense")
        dense = dense_of(scaled[scaled["scheme"] == "dense"], variant)
        _draw_networks(pane, pd.concat([scaled[pruned], dense]), scaled[scaled["front"]])
    panes[-1].set_xlabel(f"{unit} cycles an image")
    same_limits(panes)
    _milliseconds(panes[0], scaled)
    _legend(figure, panes)
    for pane, variant in zip(panes, variants, strict=True):
        _name_points(pane, scaled[(scaled["variant"] == variant) & (scaled["sparsity"] > 0)])
    return figure


def _draw_networks(axes: Axes, own: pd.DataFrame, front: pd.DataFrame) -> None:
    muted = light("muted")
    line: Any = {"color": muted, "linewidth": 1.1, "label": "Pareto front"}
    axes.step(front["cycles"], front["accuracy"], where="post", **line)
    axes.hlines(own["accuracy"], own["bound_cycles"], own["cycles"], color=muted, linewidth=0.9)
    tick: Any = {"linestyle": "", "marker": "|", "markersize": 6, "label": "bound of the hardware"}
    axes.plot(own["bound_cycles"], own["accuracy"], color=muted, **tick)
    for scheme in sorted(set(own["scheme"]), key=scheme_rank):
        _draw_series(axes, own[own["scheme"] == scheme], str(scheme))
    axes.margins(0.08)


def _milliseconds(axes: Axes, scaled: pd.DataFrame) -> None:
    """A second axis in ms above, where one clock holds for all networks."""
    ratios = (scaled["milliseconds"] / scaled["cycles"]).dropna()
    if ratios.empty or ratios.max() > 1.0001 * ratios.min():
        return
    ratio = float(ratios.mean())
    above = axes.secondary_xaxis(
        "top", functions=(partial(np.multiply, ratio), partial(np.multiply, 1 / ratio))
    )
    above.set_xlabel("ms an image", fontsize=8.5)
    above.tick_params(labelsize=7.5)


def _draw_series(axes: Axes, own: pd.DataFrame, scheme: str) -> None:
    dense = scheme == "dense"
    axes.errorbar(
        own["cycles"],
        own["accuracy"],
        yerr=own["sd"].fillna(0.0) if own["sd"].notna().any() else None,
        color=light("ink") if dense else scheme_colour(scheme),
        linestyle="",
        marker="*" if dense else MARKERS.get(scheme, "P"),
        markersize=9 if dense else 5,
        capsize=2.5,
        elinewidth=1.0,
        label=scheme,
        zorder=3,
    )
    add_tips(axes, [(r["cycles"], r["accuracy"], _tip(r)) for r in own.to_dict("records")])


def _tip(row: dict[Any, Any]) -> str:
    """``row``: cycles as drawn, in thousands or millions."""
    name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
    ms = "" if pd.isna(row["milliseconds"]) else f", {row['milliseconds']:.3f} ms"
    spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
    numbers = f"{row['accuracy']:.2f}{spread} %, {row['cycles']:,.4g} {row['unit']} cycles{ms}"
    return f"{name} {percent(row['sparsity'])}: {numbers} ({plural(row['n'], 'seed')})"


def _legend(figure: Figure, panes: list[Axes]) -> None:
    """Each name once, whichever panels have it."""
    named: dict[str, Any] = {}
    for pane in panes:
        for handle, label in zip(*pane.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    place: Any = {"loc": "outside lower center", "ncols": 4, "frameon": False, "fontsize": 7.5}
    figure.legend(list(named.values()), list(named), **place)


def _name_points(axes: Axes, own: pd.DataFrame) -> None:
    """The sparsity beside every network, those of the front first."""
    rows = own.sort_values("front", ascending=False, kind="stable").to_dict("records")
    names = [
        EndLabel(r["cycles"], r["accuracy"], percent(r["sparsity"]), scheme_colour(r["scheme"]))
        for r in rows
    ]
    name_points(axes, names, [(name.x, name.y) for name in names])


def frontier_caption(sweep: Sweep) -> str:
    """Which scheme holds the front, and what speed costs along it."""
    found = networks(sweep)
    front = found[found["front"]]
    pruned = front[front["scheme"] != "dense"]
    counts = pruned["scheme"].value_counts()
    held = [f"{counts[name]} {name}" for name in sorted(counts.index, key=scheme_rank)]
    held += ["the dense network"] if len(pruned) < len(front) else []
    text = f"{len(front)} of {len(found)} networks are on the Pareto front ({listed(held)})"
    first = front.iloc[0]
    fastest = f"{first['cycles']:,.0f} cycles at {first['accuracy']:.2f} %"
    parts = [f"{text}; the fastest takes {fastest} ({first['scheme']})."]
    return " ".join([*parts, _within(found), basis(sweep)]).replace("  ", " ")


def _within(found: pd.DataFrame, points: float = 3.0) -> str:
    """The fastest pruned network that loses at most so many points against dense."""
    compared = beside_dense(found)
    compared = compared[compared["scheme"] != "dense"].dropna(subset=["faster"])
    if compared.empty:
        return ""
    near = compared[compared["loss"] <= points]
    if near.empty:
        return f"No pruned network is within {points:g} percentage points of dense."
    best = near.sort_values("faster", kind="stable").iloc[-1]
    name = ", ".join(part for part in (best["scheme"], best["variant"]) if part)
    return (
        f"Within {points:g} percentage points of dense the fastest is {name} at "
        f"{percent(best['sparsity'])}: {best['faster']:.2f} times faster for "
        f"{best['loss']:.2f} percentage points."
    )


def beside_dense(found: pd.DataFrame) -> pd.DataFrame:
    """With ``faster`` (times) and ``loss`` (points) against the dense network of the variant."""
    dense = found[found["scheme"] == "dense"]
    if dense.empty:
        return found.assign(faster=math.nan, loss=math.nan)
    base = [dense_of(dense, variant).iloc[0] for variant in found["variant"]]
    return found.assign(
        faster=[row["cycles"] for row in base] / found["cycles"],
        loss=[row["accuracy"] for row in base] - found["accuracy"],
    )


def frontier_table(sweep: Sweep) -> Table:
    """The networks of the front, fastest first."""
    found = beside_dense(networks(sweep))
    rows = []
    for row in found[found["front"]].to_dict("records"):
        name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
        spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
        faster = "" if pd.isna(row["faster"]) else f"{row['faster']:.2f}"
        above = f"{100 * (row['cycles'] / row['bound_cycles'] - 1):.1f} %"
        cells = [percent(row["sparsity"]), f"{row['accuracy']:.2f}{spread}"]
        rows.append([name, *cells, f"{row['cycles']:,.0f}", faster, above, str(row["n"])])
    accuracy = f"on {npu_name(sweep)} (%)"
    head = ["scheme", "sparsity", accuracy, "cycles", "times faster", "above the bound"]
    note = "Networks that no other beats on both accuracy and cycles; means over seeds."
    return Table("frontier", "The Pareto front", note, [*head, "seeds"], rows)
