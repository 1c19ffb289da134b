"""Accuracy on the NPU against cycles: every network of the sweep, and which of them is worth it.

Seeds are averaged; a network is on the Pareto front when no other is at least as fast and more
accurate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.style import MARKERS, light, panels, scheme_colour
from gpw_cli.report.summary import pareto, scheme_rank
from gpw_cli.report.tables import Table
from gpw_cli.report.words import basis, listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MILLION = 1e-6


def networks(sweep: Sweep) -> pd.DataFrame:
    """A row a (scheme, variant, sparsity): mean ``cycles``, ``bound_cycles`` and ``accuracy`` (%)
    over seeds, its ``sd``, the number ``n`` of seeds, and ``front``.
    """
    rows = sweep.done.dropna(subset=["cycles", "vta_accuracy"])
    found = (
        rows.groupby(["scheme", "variant", "sparsity"], sort=False)
        .agg(
            cycles=("cycles", "mean"),
            bound_cycles=("bound_cycles", "mean"),
            accuracy=("vta_accuracy", "mean"),
            sd=("vta_accuracy", "std"),
            n=("vta_accuracy", "size"),
        )
        .reset_index()
    )
    pairs = list(zip(found["cycles"].tolist(), found["accuracy"].tolist(), strict=True))
    chosen = pareto(pairs)
    front = found.iloc[chosen].assign(front=True)
    rest = found.drop(found.index[chosen]).assign(front=False)
    return pd.concat([front, rest], ignore_index=True)


def draw_frontier(sweep: Sweep) -> Figure:
    """Every network; the hardware's bound left of it; the Pareto front as a line."""
    figure, grid = panels(1, 1, [4.0])
    axes, found = grid[0][0], networks(sweep)
    axes.set(title="Test accuracy on VTA (%)", xlabel="Million cycles a picture")
    front = found[found["front"]]
    x, y = front["cycles"] * MILLION, front["accuracy"]
    axes.step(x, y, where="post", color=light("muted"), linewidth=1.1, label="Pareto front")
    _draw_bounds(axes, found)
    variants = list(dict.fromkeys(found[found["scheme"] != "dense"]["variant"]))
    names = found[["scheme", "variant"]].drop_duplicates().itertuples(index=False)
    for scheme, variant in sorted(names, key=lambda pair: scheme_rank(pair[0])):
        own = found[(found["scheme"] == scheme) & (found["variant"] == variant)]
        _draw_series(axes, own, str(scheme), str(variant), hollow=variant in variants[1:])
    _name_front(axes, front)
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=7.5)
    return figure


def _draw_bounds(axes: Axes, found: pd.DataFrame) -> None:
    bound, cycles = found["bound_cycles"] * MILLION, found["cycles"] * MILLION
    axes.hlines(found["accuracy"], bound, cycles, color=light("muted"), linewidth=0.9)
    axes.plot(
        bound,
        found["accuracy"],
        color=light("muted"),
        linestyle="",
        marker="|",
        markersize=6,
        label="bound of the hardware",
    )


def _draw_series(axes: Axes, own: pd.DataFrame, scheme: str, variant: str, *, hollow: bool) -> None:
    dense = scheme == "dense"
    colour = light("ink") if dense else scheme_colour(scheme)
    axes.errorbar(
        own["cycles"] * MILLION,
        own["accuracy"],
        yerr=own["sd"].fillna(0.0) if own["sd"].notna().any() else None,
        color=colour,
        linestyle="",
        marker="*" if dense else MARKERS.get(scheme, "P"),
        markersize=9 if dense else 5,
        markerfacecolor=light("page") if hollow else colour,
        capsize=2.5,
        elinewidth=1.0,
        label=f"{scheme}, {variant}" if variant and not dense else scheme,
        zorder=3,
    )


def _name_front(axes: Axes, front: pd.DataFrame) -> None:
    for row in front[front["sparsity"] > 0].to_dict("records"):
        axes.annotate(
            percent(row["sparsity"]),
            (row["cycles"] * MILLION, row["accuracy"]),
            xytext=(-4, 5),
            textcoords="offset points",
            ha="right",
            color=scheme_colour(row["scheme"]),
            fontsize=7.5,
        )


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
    dense = found[found["scheme"] == "dense"]
    if dense.empty:
        return ""
    base = dense.iloc[0]
    near = found[(found["accuracy"] >= base["accuracy"] - points) & (found["scheme"] != "dense")]
    if near.empty:
        return f"No pruned network is within {points:g} points of dense."
    best = near.loc[near["cycles"].idxmin()]
    faster, loss = base["cycles"] / best["cycles"], base["accuracy"] - best["accuracy"]
    name = ", ".join(part for part in (best["scheme"], best["variant"]) if part)
    return (
        f"Within {points:g} points of dense the fastest is {name} at {percent(best['sparsity'])}: "
        f"{faster:.2f} times faster for {loss:.2f} points."
    )


def frontier_table(sweep: Sweep) -> Table:
    """The networks of the front, fastest first."""
    found = networks(sweep)
    dense = found[found["scheme"] == "dense"]["cycles"]
    rows = []
    for row in found[found["front"]].to_dict("records"):
        name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
        spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
        faster = f"{dense.iloc[0] / row['cycles']:.2f}" if len(dense) else ""
        above = f"{100 * (row['cycles'] / row['bound_cycles'] - 1):.1f} %"
        cells = [percent(row["sparsity"]), f"{row['accuracy']:.2f}{spread}"]
        rows.append([name, *cells, f"{row['cycles']:,.0f}", faster, above, str(row["n"])])
    head = ["scheme", "sparsity", "on VTA (%)", "cycles", "times faster", "above the bound"]
    note = "Networks that no other beats on both accuracy and cycles; means over seeds."
    return Table("frontier", "The Pareto front", note, [*head, "seeds"], rows)
