"""Cycles by pass: what each network spends its cycles on. The target names the passes. Runs that
were recorded before cycles were counted by pass are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.draw import part_bars
from gpw_cli.report.frame import BUSY, dig
from gpw_cli.report.frontier import network_name
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import rank
from gpw_cli.report.style import panels
from gpw_cli.report.summary import in_order, main_variant
from gpw_cli.report.tables import Table
from gpw_cli.report.words import listed, npu_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATH = "stages.simulate.metrics.cycles_by_pass"
KEYS = ["scheme", "variant", "sparsity"]
BARS = 24  # more networks than these: the first variant only


def by_pass(sweep: Sweep) -> pd.DataFrame:
    """One row per (scheme, variant, sparsity): the mean cycles of each pass for one image, in the
    order of legends; the number ``n`` of runs; the utilisation of the units (0 to 1), named as in
    the frame.
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
    units = [str(name) for name in counted if str(name).endswith(BUSY)]
    busy = [name for name in units if counted[name].notna().any()]
    joined = pd.concat([counted[[*KEYS, *busy]], passes], axis=1)
    grouped = joined.groupby(KEYS, sort=False, dropna=False)
    return grouped.mean().assign(n=grouped.size()).reset_index()


def pass_names(found: pd.DataFrame) -> list[str]:
    """The columns of ``by_pass`` that are passes."""
    columns = [str(name) for name in found]
    return [name for name in columns if name not in (*KEYS, "n") and not name.endswith(BUSY)]


def left_out(sweep: Sweep) -> str:
    """How many timed runs have no cycles by pass, as a sentence."""
    timed = sweep.done.dropna(subset=["cycles"])
    old = int((timed["counted_passes"] == 0).sum())
    if not old:
        return ""
    made = "run that was recorded" if old == 1 else "runs that were recorded"
    return f"Without {old:,} {made} before cycles were counted by pass."


def draw_passes(sweep: Sweep) -> Figure:
    """One stacked bar per network."""
    found, only = by_pass(sweep), ""
    if len(found) > BARS:
        shown, only = main_variant(sweep)
        found = by_pass(shown)
    figure, ((axes,),) = panels(1, 1, [1.15 + 0.24 * len(found)])
    parts = {name: found[name].tolist() for name in pass_names(found)}
    part_bars(axes, _bar_names(found), parts)
    axes.set_title(f"Thousand cycles per image on {npu_name(sweep)}{only}")
    legend: Any = {"loc": "outside lower center", "frameon": False, "fontsize": 7.5}
    figure.legend(*axes.get_legend_handles_labels(), ncols=5, **legend)
    return figure


def _bar_names(found: pd.DataFrame) -> list[str]:
    """A variant that all pruned networks share is left out."""
    rows = found.to_dict("records")
    pruned = {row["variant"] for row in rows if row["scheme"] != "dense"}
    shared = pruned.pop() if len(pruned) == 1 else None
    return [
        network_name({**row, "variant": "" if row["variant"] == shared else row["variant"]})
        for row in rows
    ]


def passes_caption(sweep: Sweep) -> str:
    """The largest parts of the slowest and the fastest network."""
    found = by_pass(sweep)
    names = pass_names(found)
    rows = found.to_dict("records")
    total = [sum(float(row[name]) for name in names) for row in rows]
    parts = []
    for place in dict.fromkeys([total.index(max(total)), total.index(min(total))]):
        row, cycles = rows[place], total[place]
        largest = sorted(names, key=lambda name: -float(row[name]))[:3]
        shares = [f"{n.replace('_', ' ')} {100 * row[n] / cycles:.1f} %" for n in largest]
        parts.append(f"{network_name(row)}: {listed(shares)} of {cycles:,.0f} cycles")
    text = "A cycle counts for the pass that computes in it, else for load, store or stall."
    return f"{'; '.join(parts)}. {text} {left_out(sweep)}".strip()


def passes_table(sweep: Sweep) -> Table:
    """Cycles of every pass, and how busy each unit was."""
    found = by_pass(sweep)
    names = pass_names(found)
    busy = [str(name) for name in found if str(name).endswith(BUSY)]
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
