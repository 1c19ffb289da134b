"""What each knob of a quantizer is worth: the points of a sweep that turn one at a time.

Drawn for sweeps with axes ``quantizer.*`` (conf/experiment/quantizer_knobs.yaml): every point is
compared with the one of the same network, quantizer and bits that turns none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.style import light, panels
from gpw_cli.report.tables import Table
from gpw_cli.report.words import basis, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREFIX = "quantizer."
BITS = ("quantizer.weight_bits", "quantizer.act_bits")
SETTING = ["model", "scheme", "sparsity", "seed", "quantizer", "bits"]


def turned(axes: Mapping[str, Any]) -> str:
    """``rounding truncate`` for a point whose axes turn that knob, empty for the preset."""
    knobs = [key for key in axes if key.startswith(PREFIX) and key not in BITS]
    return ", ".join(f"{key.removeprefix(PREFIX)} {axes[key]}" for key in knobs)


def effects(sweep: Sweep) -> pd.DataFrame:
    """A row a point with a turned knob: ``quantizer``, ``knob``, ``bits``, ``fused`` (%) and its
    ``effect`` (points).
    """
    done = sweep.done.dropna(subset=["fused_accuracy", "weight_bits"])
    knob = [turned(sweep.records[point]["axes"]) for point in done["id"]]
    found = done.assign(knob=knob, bits=done["weight_bits"].astype(int))
    preset = found[found["knob"] == ""][[*SETTING, "fused_accuracy"]]
    joined = found[found["knob"] != ""].merge(preset, on=SETTING, suffixes=("", "_preset"))
    return pd.DataFrame(
        {
            "quantizer": joined["quantizer"],
            "knob": joined["knob"],
            "bits": joined["bits"],
            "fused": joined["fused_accuracy"],
            "effect": joined["fused_accuracy"] - joined["fused_accuracy_preset"],
        }
    )


def turns(sweep: Sweep) -> bool:
    """Whether any point turns a knob that another leaves alone."""
    return len(effects(sweep)) > 0


def _by_bits(sweep: Sweep) -> pd.DataFrame:
    """Knobs down, bits across (most first), the mean effect in each cell; worst knob first."""
    table = effects(sweep).pivot_table(index="knob", columns="bits", values="effect")
    table = table[sorted(table.columns, reverse=True)]
    return table.loc[table.mean(axis=1).sort_values(kind="stable").index]


def draw_knobs(sweep: Sweep) -> Figure:
    """One panel for each number of bits: a bar a knob, in points against the preset."""
    table = _by_bits(sweep)
    figure, grid = panels(1, len(table.columns), [0.9 + 0.19 * len(table)])
    for index, (axes, bits) in enumerate(zip(grid[0], table.columns, strict=True)):
        _bars(axes, {place: v for place, v in enumerate(table[bits]) if not pd.isna(v)})
        axes.set(title=f"{bits} bits", ylim=(len(table) - 0.3, -0.7))  # the worst knob above
        axes.set_yticks(range(len(table)), list(table.index) if index == 0 else [], fontsize=7.5)
    grid[0][0].set_xlabel("Percentage points against the preset")
    return figure


def _bars(axes: Axes, effect: dict[int, float]) -> None:
    """``effect``: place from above -> points; a point that is not finished leaves its place out."""
    found = list(effect.values())
    colours = [light("block" if value < 0 else "gpw") for value in found]
    axes.barh(list(effect), found, color=colours, height=0.7)
    axes.axvline(0, color=light("muted"), linewidth=0.9)
    reach = max([0.1, *map(abs, found)])
    for place, value in effect.items():
        inside = value < -0.6 * reach  # a long bar carries its number inside
        axes.annotate(
            f"{value:+.2f}",
            (value if inside else max(value, 0.0), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=light("page" if inside else "ink"),
            fontsize=6.5,
        )
    axes.set_xlim(min([0.0, *found]) - 0.05 * reach, max([0.0, *found]) + 0.75 * reach)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def knobs_caption(sweep: Sweep) -> str:
    """The knobs that matter most at each number of bits, and those that do not."""
    table = _by_bits(sweep)
    names = [str(name) for name in effects(sweep)["quantizer"].unique()]
    parts = []
    for bits in table.columns:
        most = table[bits].loc[table[bits].abs().nlargest(3).index]
        parts.append(f"at {bits} bits {listed([f'{k} {v:+.2f}' for k, v in most.items()])}")
    harmless = [str(k) for k, row in table.iterrows() if row.abs().max() < 0.5]
    quiet = f" Within 0.5 everywhere: {listed(harmless)}." if harmless else ""
    head = f"{listed(names)} with one knob turned; the largest effects, in percentage points: "
    return f"{head}{'; '.join(parts)}.{quiet} {basis(sweep)}"


def knobs_table(sweep: Sweep) -> Table:
    """Every knob: points against the preset at each number of bits; no rows where none turned."""
    if not turns(sweep):
        return Table("knobs", "Knobs", "", [], [])
    table = _by_bits(sweep)
    rows = [
        [str(knob), *("" if pd.isna(value) else f"{value:+.2f}" for value in row)]
        for knob, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    head = ["knob", *(f"{bits} bits" for bits in table.columns)]
    note = "Test accuracy after fusion, percentage points against the same preset untouched."
    return Table("knobs", "One knob at a time", note, head, rows)
