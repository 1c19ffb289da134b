"""What each setting of a quantizer is worth: the runs of a sweep that change one at a time.

Drawn for sweeps with axes ``quantizer.*`` (conf/experiment/quantizer_knobs.yaml): every run is
compared with the one of the same network, quantizer and bits that changes none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light
from gpw_cli.report.style import add_tip, panels
from gpw_cli.report.tables import Table
from gpw_cli.report.words import NOISE, basis, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = (-50, -5, 0, 5, 50)  # percentage points
PREFIX = "quantizer."
BITS = ("quantizer.weight_bits", "quantizer.act_bits")
SETTING = ["model", "scheme", "sparsity", "seed", "quantizer", "bits"]


def turned(axes: Mapping[str, Any]) -> str:
    """``rounding truncate`` for a run whose axes change that setting, empty for the preset."""
    knobs = [key for key in axes if key.startswith(PREFIX) and key not in BITS]
    return ", ".join(f"{key.removeprefix(PREFIX)} {axes[key]}" for key in knobs)


def effects(sweep: Sweep) -> pd.DataFrame:
    """One row per run with a changed setting: ``quantizer``, ``knob``, ``bits``, ``fused`` (%) and
    its ``effect`` (percentage points).
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
    """Whether any run changes a setting that another leaves alone."""
    return len(effects(sweep)) > 0


def _by_bits(sweep: Sweep) -> pd.DataFrame:
    """Knobs down, bits across (most first), the mean effect in each cell; worst knob first."""
    table = effects(sweep).pivot_table(index="knob", columns="bits", values="effect")
    table = table[sorted(table.columns, reverse=True)]
    return table.loc[table.mean(axis=1).sort_values(kind="stable").index]


def draw_knobs(sweep: Sweep) -> Figure:
    """One panel per number of bits, all on one scale; one bar per knob, in percentage points
    against the preset. Differences within the noise of one seed lie in the band.
    """
    table = _by_bits(sweep)
    figure, grid = panels(1, len(table.columns), [0.9 + 0.19 * len(table)])
    found = effects(sweep)["effect"]
    limits = _place(min(0.0, found.min())), _place(max(0.0, found.max()))
    for index, (axes, bits) in enumerate(zip(grid[0], table.columns, strict=True)):
        _bars(axes, {str(knob): v for knob, v in table[bits].items()}, f"{bits} bits", limits)
        names = list(table.index) if index == 0 else []
        axes.set_yticks(range(len(table)) if names else [], names, fontsize=7.5)
        axes.set_title(f"{bits} bits")
    grid[0][0].set_xlabel("Percentage points against the preset")
    return figure


def _place(effect: float) -> float:
    """Where an effect is drawn: linear near 0, by its logarithm far from it."""
    return math.asinh(effect)


def _bars(axes: Axes, effect: Mapping[str, float], bits: str, limits: tuple[float, float]) -> None:
    """``effect``: knob -> percentage points, the first on top; nan has no bar. ``limits``: of all
    panels, as ``_place`` gives them.
    """
    axes.axvspan(_place(-NOISE), _place(NOISE), color=light("grid"), linewidth=0)
    width = limits[1] - limits[0] or 1.0
    for place, (knob, value) in enumerate(effect.items()):
        if pd.isna(value):
            continue
        (bar,) = axes.barh(place, _place(value), color=light("muted"), height=0.7)
        add_tip(bar, f"{knob}, {bits}: {value:+.2f} percentage points")
        style: Any = {"textcoords": "offset points", "va": "center", "fontsize": 6.5}
        start = max(_place(value), 0.0)
        axes.annotate(f"{value:+.2f}", (start, place), xytext=(3, 0), color=light("ink"), **style)
    axes.axvline(0, color=light("muted"), linewidth=0.9)
    axes.set_ylim(len(effect) - 0.3, -0.7)  # the worst knob above
    axes.set_xlim(limits[0] - 0.06 * width, limits[1] + 0.5 * width)
    shown = [tick for tick in TICKS if limits[0] <= _place(tick) <= limits[1]]
    axes.set_xticks([_place(tick) for tick in shown], [f"{tick:g}" for tick in shown], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def knobs_caption(sweep: Sweep) -> str:
    """The knobs that matter most at each number of bits, and those that matter nowhere."""
    table = _by_bits(sweep)
    names = [str(name) for name in effects(sweep)["quantizer"].unique()]
    parts = []
    for bits in table.columns:
        most = table[bits].loc[table[bits].abs().nlargest(3).index]
        parts.append(f"at {bits} bits {listed([f'{k} {v:+.2f}' for k, v in most.items()])}")
    harmless = [str(k) for k, row in table.iterrows() if row.abs().max() < NOISE]
    quiet = f" Within {NOISE} everywhere: {listed(harmless)}." if harmless else ""
    head = f"{listed(names)} with one knob changed; the largest effects, in percentage points: "
    return f"{head}{'; '.join(parts)}.{quiet} {basis(sweep)}"


def knobs_table(sweep: Sweep) -> Table:
    """Every knob: percentage points against the preset at each number of bits."""
    if not turns(sweep):
        return Table("knobs", "Knobs", "", [], [])
    table = _by_bits(sweep)
    rows = [
        [str(knob), *("" if pd.isna(value) else f"{value:+.2f}" for value in row)]
        for knob, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    head = ["knob", *(f"{bits} bits" for bits in table.columns)]
    note = "Test accuracy after fusion, in percentage points against the preset as it is."
    return Table("knobs", "One knob at a time", note, head, rows)
