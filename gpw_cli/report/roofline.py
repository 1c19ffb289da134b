"""The roofline of a sweep's networks: operations per second against operations per DRAM byte.
Source: Williams, Waterman and Patterson (2009). A multiplication and an addition are two
operations. Their number is the utilisation of the array times the cycles times what the array does
in one cycle. Peak and bandwidth come from the target's configuration in each record.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gpw_cli.report.draw import EndLabel, name_points
from gpw_cli.report.frame import BUSY, dig
from gpw_cli.report.frontier import network_name
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light, look, rank
from gpw_cli.report.style import add_tips, panels
from gpw_cli.report.words import basis, listed, percent, plural, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = [m * 10.0**n for n in range(-3, 8) for m in (1, 2, 5)]
MORE_TICKS = sorted([*TICKS, *(m * 10.0**n for n in range(-3, 8) for m in (1.5, 3, 7))])
CROWDED = 1.4  # of two roofs: their numbers would touch
WIDE = 12.0  # last over first value of an axis from which the fewer ticks fill it


@dataclass(frozen=True)
class Roof:
    """What a target can do at best, in operations and bytes per second. ``unit``: the one whose
    utilisation counts the operations. ``full``: operations per second at a utilisation of 1 (above
    ``peak`` if a micro-op takes several cycles).
    """

    unit: str
    full: float
    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """Operations per byte above which the bandwidth is no limit."""
        return self.peak / self.bandwidth


def _vta(target: Mapping[str, Any]) -> Roof | None:
    if target.get("config_file"):  # the geometry is in VTA's own file
        return None
    size, timing = target["vta"], target["timing"]
    block = size["LOG_BLOCK"]
    log_in, log_out = (size.get(f"LOG_BLOCK_{side}") for side in ("IN", "OUT"))
    logs = (size["LOG_BATCH"], *(block if log is None else log for log in (log_in, log_out)))
    clock = 1e6 * timing["clock_mhz"]
    full = 2.0 * 2.0 ** sum(logs) * clock
    return Roof("gemm", full, full / timing["gemm_cycles"], timing["bus_bits"] / 8 * clock)


def _engine(target: Mapping[str, Any]) -> Roof:
    clock = 1e6 * target["clock_mhz"]
    full = 2.0 * target["arrays"] * target["atomic_k"] * target["atomic_c"] * clock
    return Roof("mac", full, full, target["dram_bytes"] * clock)


# family of the target -> its roof; EIE has none, its weights stay on the chip
ROOFS: dict[str, Callable[[Mapping[str, Any]], Roof | None]] = {"vta": _vta, "engine": _engine}


def roof_of(target: Mapping[str, Any]) -> Roof | None:
    """The roof of ``config.target`` of a record; None if the family has none or the record lacks
    its numbers.
    """
    try:
        make = ROOFS.get(str(target.get("family", "vta")))
        roof = make(target) if make else None
    except (AttributeError, KeyError, OverflowError, TypeError):  # an old record, or an edited one
        return None
    whole = roof is not None and all(0 < n < math.inf for n in (roof.peak, roof.bandwidth))
    return roof if whole else None


def places(sweep: Sweep) -> pd.DataFrame:
    """One row per (target, scheme, variant, sparsity), means over ``n`` seeds: ``intensity``
    (operations per DRAM byte) and ``rate`` (operations per second); ``id`` of one of its runs.
    """
    rows = []
    for run in (
        sweep.uncut()
        .done.dropna(subset=["cycles", "milliseconds", "dram_bytes"])
        .to_dict("records")
    ):
        roof = roof_of(dig(sweep.records[run["id"]], "config.target") or {})
        busy = run.get(f"{roof.unit}{BUSY}") if roof else None
        if roof is None or busy is None or pd.isna(busy) or not run["dram_bytes"]:
            continue
        rate = busy * roof.full
        operations = rate * run["milliseconds"] / 1e3
        rows.append({**run, "rate": rate, "intensity": operations / run["dram_bytes"]})
    keys = ["target", "scheme", "variant", "sparsity"]
    if not rows:
        return pd.DataFrame(columns=[*keys, "intensity", "rate", "id", "n"])
    grouped = pd.DataFrame(rows).groupby(keys, sort=False, dropna=False)
    found = grouped.agg(
        intensity=("intensity", "mean"), rate=("rate", "mean"), id=("id", "first"), n=("id", "size")
    )
    return found.reset_index()


def roofs(sweep: Sweep, found: pd.DataFrame) -> dict[str, Roof]:
    """The roofs by name of the target, in the order of legends."""
    made = {
        str(row["target"]): roof_of(dig(sweep.records[row["id"]], "config.target"))
        for row in found.drop_duplicates("target").to_dict("records")
    }
    names = sorted(made, key=lambda name: rank("target", name))
    return {name: roof for name in names if (roof := made[name]) is not None}


def known(sweep: Sweep) -> bool:
    """Whether any network can be placed under a roof."""
    return len(places(sweep)) > 0


def draw_roofline(sweep: Sweep) -> Figure:
    """One roof per target and one marker per network, coloured by scheme, or by target if there are
    several.
    """
    found = places(sweep)
    made = roofs(sweep, found)
    figure, ((axes,),) = panels(1, 1, [3.6])
    what = "target" if len(made) > 1 else "scheme"
    low = 0.6 * min(found["intensity"].min(), *(roof.ridge for roof in made.values()))
    high = 1.8 * max(found["intensity"].max(), *(roof.ridge for roof in made.values()))
    for name, roof in made.items():
        colour = look("target", name).colour if len(made) > 1 else light("ink")
        near = any(1 < other.peak / roof.peak < CROWDED for other in made.values())
        _draw_roof(axes, roof, (low, high), colour, below=near)
    drawn = sorted({str(name) for name in found[what]}, key=lambda name: rank(what, name))
    for name in drawn:
        _draw_places(axes, found[found[what] == name], what, name)
    rates = [*found["rate"], *(roof.peak for roof in made.values())]
    _log_axes(axes, (low, high), (min(rates) / 1.5e9, max(rates) * 1.4e-9))
    axes.set_title("Billion operations per second")
    axes.set_xlabel("Operations per DRAM byte")
    legend: Any = {"loc": "outside lower center", "frameon": False, "fontsize": 7.5}
    figure.legend(ncols=4, **legend)
    if len(made) == 1:  # else the legend names the targets, the pointer the networks
        _name_ends(axes, found, what)
    return figure


def _draw_roof(
    axes: Axes, roof: Roof, ends: tuple[float, float], colour: str, *, below: bool
) -> None:
    """``below``: its numbers stand under the line, because another roof is just above."""
    x = [ends[0], roof.ridge, ends[1]]
    y = [roof.bandwidth * ends[0], roof.peak, roof.peak]
    axes.plot(x, [rate / 1e9 for rate in y], color=colour, linewidth=1.2)
    text = f"{roof.peak / 1e9:,.4g} GOPS, {roof.bandwidth / 1e9:,.3g} GB/s"
    place = (ends[1], roof.peak / 1e9)
    axes.annotate(
        text,
        place,
        xytext=(-2, -3 if below else 3),
        textcoords="offset points",
        ha="right",
        va="top" if below else "baseline",
        fontsize=7.5,
        color=colour,
    )


def _draw_places(axes: Axes, own: pd.DataFrame, what: str, name: str) -> None:
    drawn = look(what, name)
    style: Any = {"color": drawn.colour, "marker": drawn.marker, "label": name}
    size = 9 if drawn.marker == "*" else 5
    axes.plot(own["intensity"], own["rate"] / 1e9, linestyle="", markersize=size, **style)
    tips = [(row["intensity"], row["rate"] / 1e9, _tip(row)) for row in own.to_dict("records")]
    add_tips(axes, tips)


def _tip(row: Mapping[Any, Any]) -> str:
    numbers = f"{row['rate'] / 1e9:.4g} GOPS, {row['intensity']:.4g} operations per byte"
    return f"{row['target']}, {network_name(row)}: {numbers} ({plural(row['n'], 'seed')})"


def _log_axes(axes: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.set(xscale="log", yscale="log", xlim=x, ylim=y)
    for axis, ends in ((axes.xaxis, x), (axes.yaxis, y)):
        every = TICKS if ends[1] > WIDE * ends[0] else MORE_TICKS
        ticks = [tick for tick in every if ends[0] <= tick <= ends[1]]
        axis.set_ticks(ticks, [f"{tick:,g}" for tick in ticks])
        axis.set_ticks([], minor=True)


def _name_ends(axes: Axes, found: pd.DataFrame, what: str) -> None:
    """The sparsity beside the networks with fewest and most operations a byte."""
    ends = found.sort_values("intensity", kind="stable").iloc[[0, -1]]
    names = [
        EndLabel(
            row["intensity"],
            row["rate"] / 1e9,
            _short(row),
            look(what, row[what]).colour,
        )
        for row in ends.to_dict("records")
    ]
    markers: Sequence[tuple[float, float]] = list(
        zip(found["intensity"], found["rate"] / 1e9, strict=True)
    )
    name_points(axes, names, markers)


def _short(row: Mapping[Any, Any]) -> str:
    return row["variant"] or "dense" if row["scheme"] == "dense" else percent(row["sparsity"])


def roofline_caption(sweep: Sweep) -> str:
    """Peak, bandwidth and ridge of each target; how near its networks come."""
    found = places(sweep)
    parts: list[str] = []
    for name, roof in roofs(sweep, found).items():
        own = found[found["target"] == name]
        top = np.minimum(roof.peak, own["intensity"] * roof.bandwidth)
        reached = span((100 * own["rate"] / top).tolist(), 0)
        parts.append(
            f"{name}: {roof.peak / 1e9:,.4g} billion operations and {roof.bandwidth / 1e9:,.3g} "
            f"billion bytes per second meet at {roof.ridge:,.4g} operations per byte; its networks "
            f"have {span(own['intensity'].tolist(), 0)} and reach {reached} % of the roof"
        )
    counted = "All multiplications of the array count, those of bias, shortcut and pool too."
    return f"{listed(parts)}. {counted} {basis(sweep)}"
