"""Cycles by pass: what each network's cycles are spent on, where its record says so.

Passes are named by the target. Records of before cycles were counted by pass are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.draw import part_bars
from gpw_cli.report.frame import BUSY, dig
from gpw_cli.report.frontier import network_name
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import panels, rank
from gpw_cli.report.summary import in_order, main_variant
from gpw_cli.report.tables import Table
from gpw_cli.report.words import listed, npu_name, plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH = "stages.simulate.metrics.cycles_by_pass"
KEYS = ["scheme", "variant", "sparsity"]
BARS = 24  # more networks than these: the first variant only


def by_pass(sweep: Sweep) -> pd.DataFrame:
    """A row a (scheme, variant, sparsity): mean cycles of each pass for one image, columns in the
    order of legends; ``n`` runs; the units' utilisation (0 to 1) under the frame's names.
    """
    counted = in_order(sweep.done[sweep.done["counted_passes"] > 0])
    rows = []
    for run in counted.to_dict("records"):
        record = sweep.records[run["id"]]
        images = dig(record, "stages.simulate.metrics.pictures_per_run") or 1
        rows.append({name: cycles / images for name, cycles in dig(record, PATH).items()})
    passes = pd.DataFrame(rows, index=counted.index).fillna(0.0)
    passes = passes.loc[:, passes.sum() > 0]
    passes = passes[sorted(passes, key=lambda name: rank("part", str(name)))]
    busy = [name for name in counted if name.endswith(BUSY) and counted[name].notna().any()]
    joined = pd.concat([counted[[*KEYS, *busy]], passes], axis=1)
    grouped = joined.groupby(KEYS, sort=False, dropna=False)
    return grouped.mean().assign(n=grouped.size()).reset_index()


def pass_names(found: pd.DataFrame) -> list[str]:
    """Of the passes in ``by_pass``."""
    return [name for name in found if name not in (*KEYS, "n") and not name.endswith(BUSY)]


def left_out(sweep: Sweep) -> str:
    """How many timed runs have no cycles by pass, as a sentence."""
    timed = sweep.done.dropna(subset=["cycles"])
    old = int((timed["counted_passes"] == 0).sum())
    if not old:
        return ""
    were = "was" if old == 1 else "were"
    return f"{plural(old, 'run')} {were} recorded before cycles were counted by pass: left out."


def draw_passes(sweep: Sweep) -> Figure:
    """A stacked bar a network."""
    found, only = by_pass(sweep), ""
    if len(found) > BARS or found[found["scheme"] != "dense"]["variant"].nunique() < 2:
        shown, only = main_variant(sweep)
        found = by_pass(shown)
    figure, ((axes,),) = panels(1, 1, [1.15 + 0.24 * len(found)])
    names = [network_name(row) for row in found.to_dict("records")]
    part_bars(axes, names, {name: found[name].tolist() for name in pass_names(found)})
    axes.set_title(f"Thousand cycles an image on {npu_name(sweep)}{only}")
    legend: Any = {"loc": "outside lower center", "frameon": False, "fontsize": 7.5}
    figure.legend(*axes.get_legend_handles_labels(), ncols=5, **legend)
    return figure


def passes_caption(sweep: Sweep) -> str:
    """The largest parts of the slowest and the fastest network."""
    found = by_pass(sweep)
    names = pass_names(found)
    total = found[names].sum(axis=1)
    parts = []
    for place in dict.fromkeys([total.idxmax(), total.idxmin()]):
        row = found.loc[place]
        shares = sorted(((row[name] / total[place], name) for name in names), reverse=True)[:3]
        said = listed([f"{name.replace('_', ' ')} {100 * share:.1f} %" for share, name in shares])
        parts.append(f"{network_name(row.to_dict())}: {said} of {total[place]:,.0f} cycles")
    text = "A cycle counts for the pass that computes in it, else for load, store or stall."
    return f"{'; '.join(parts)}. {text} {left_out(sweep)}".strip()


def passes_table(sweep: Sweep) -> Table:
    """Cycles of every pass, and how busy each unit was."""
    found = by_pass(sweep)
    names = pass_names(found)
    busy = [name for name in found if name.endswith(BUSY)]
    rows = []
    for row in found.to_dict("records"):
        cycles = [sum(row[name] for name in names), *(row[name] for name in names)]
        shares = ["" if pd.isna(row[name]) else f"{100 * row[name]:.1f}" for name in busy]
        cells = [network_name(row), *(f"{value:,.0f}" for value in cycles), *shares]
        rows.append([*cells, str(row["n"])])
    head = ["network", "cycles", *(name.replace("_", " ") for name in names), *_busy_heads(busy)]
    note = f"Cycles of one image on {npu_name(sweep)}, mean over seeds. {left_out(sweep)}".strip()
    return Table("passes", "Cycles by pass", note, [*head, "seeds"], rows)


def _busy_heads(names: Sequence[str]) -> list[str]:
    """``gemm weights busy (%)`` for ``gemm_weights_utilisation``."""
    return [f"{name.removesuffix(BUSY).replace('_', ' ')} busy (%)" for name in names]
