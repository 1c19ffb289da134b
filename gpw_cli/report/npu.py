"""What the NPU computes and how long it takes: accuracy of its integers, cycles, cycles by layer.

Drawn only for sweeps whose runs include the ``simulate`` stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from gpw_cli.report.accuracy import AXIS
from gpw_cli.report.draw import (
    draw_curves,
    label_curves,
    label_room,
    level,
    part_bars,
    same_x,
    sparsity_axis,
)
from gpw_cli.report.frame import dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light, look
from gpw_cli.report.style import panels
from gpw_cli.report.summary import (
    At,
    Curve,
    curves,
    dense_cycles,
    dense_levels,
    main_variant,
    scheme_rank,
)
from gpw_cli.report.words import (
    basis,
    cut_note,
    cycle_unit,
    listed,
    npu_name,
    percent,
    plural,
    signed_span,
    span,
    times_faster,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_npu_accuracy(sweep: Sweep) -> Figure:
    """fp32 as thin lines, the NPU's integers as thick ones; the loss between them below."""
    figure, grid = panels(2, 1, [2.7, 1.6])
    sweep, only = main_variant(sweep)
    top, below = grid[0][0], grid[1][0]
    found = curves(sweep.done, "npu_accuracy")
    top.set(title=f"Test accuracy on {npu_name(sweep)} (fp32 dotted, %){only}")
    sparsity_axis(top, found, label_room(found))
    draw_curves(top, found)
    for curve in curves(sweep.done, "accuracy"):
        x, y = [100 * at.x for at in curve.points], [at.mean for at in curve.points]
        top.plot(x, y, color=look("scheme", curve.scheme).colour, linewidth=1.0, linestyle=":")
    for _, at in dense_levels(sweep.dense(), "npu_accuracy"):
        level(top, at.mean, f"dense {at.mean:.2f}")
    low, high = top.get_ylim()
    top.set_ylim(low, high + 0.08 * (high - low))  # the dense line's name stands above it
    label_curves(top, found)
    losses = curves(_with_loss(sweep), "loss")
    below.set(title=f"fp32 minus {npu_name(sweep)} (percentage points)", xlabel=AXIS)
    below.axhline(0, color=light("muted"), linewidth=0.9)
    if losses:
        sparsity_axis(below, losses, label_room(found))
        draw_curves(below, losses)
        same_x([top, below])
    return figure


def _with_loss(sweep: Sweep) -> pd.DataFrame:
    return sweep.done.assign(loss=sweep.done["accuracy"] - sweep.done["npu_accuracy"])


def npu_accuracy_caption(sweep: Sweep) -> str:
    """What quantization costs."""
    losses = _with_loss(sweep)["loss"].dropna()
    whose = f"{_counted_only(sweep)}{basis(sweep)}"
    if losses.empty:
        return f"Accuracy of the integers that the NPU computes. {whose}"
    where = signed_span(losses.tolist(), "above", "below")
    mean = signed_span([losses.mean()], "above", "below")
    return (
        f"The integers that the NPU computes are {where} fp32 over {plural(len(losses), 'run')}, "
        f"on average {mean}. {whose}"
    )


def _counted_only(sweep: Sweep) -> str:
    """The targets that only count cycles, as a sentence."""
    rows = sweep.done[sweep.done["accuracy_of"] == "integer reference"]
    names = list(dict.fromkeys(rows["target"].dropna()))
    if not names:
        return ""
    return f"{listed(names)}: cycles only, the accuracy is the integer reference's. "


def draw_cycles(sweep: Sweep) -> Figure:
    """Cycles with the hardware's bound, and the speed-up over the dense network if that was run."""
    sweep, only = main_variant(sweep.uncut())
    dense = dense_cycles(sweep)
    figure, grid = panels(2 if dense else 1, 1, [2.6, 2.0] if dense else [2.8])
    factor, unit = cycle_unit(max(dense or 0, sweep.done["cycles"].max()))
    found = [_scaled(curve, factor) for curve in curves(sweep.done, "cycles")]
    top = grid[0][0]
    top.set(title=f"{unit} cycles per image (bound dotted){only}")
    sparsity_axis(top, found, label_room(found))
    draw_curves(top, found)
    for bound in curves(sweep.done, "bound_cycles"):
        x, y = [100 * at.x for at in bound.points], [at.mean * factor for at in bound.points]
        top.plot(x, y, color=look("scheme", bound.scheme).colour, linewidth=1.0, linestyle=":")
    top.set_ylim(0, 1.12 * max(top.get_ylim()[1], (dense or 0) * factor))
    if dense:
        level(top, dense * factor, f"dense {dense * factor:.3g}")
        _draw_speedup(grid[1][0], sweep, dense)
        same_x([top, grid[1][0]])
    label_curves(top, found)
    grid[-1][0].set_xlabel(AXIS)
    return figure


def _scaled(curve: Curve, factor: float) -> Curve:
    points = [
        At(at.x, at.mean * factor, None if at.sd is None else at.sd * factor, at.n)
        for at in curve.points
    ]
    return Curve(curve.scheme, curve.variant, tuple(points))


def _speedups(sweep: Sweep, dense: float) -> list[Curve]:
    return curves(sweep.done.assign(speedup=dense / sweep.done["cycles"]), "speedup")


def _draw_speedup(axes: Axes, sweep: Sweep, dense: float) -> None:
    found = _speedups(sweep, dense)
    axes.set(title="Times faster than dense")
    sparsity_axis(axes, found, label_room(found))
    draw_curves(axes, found)
    axes.axhline(1, color=light("muted"), linewidth=0.9)
    axes.set_ylim(bottom=0)
    label_curves(axes, found)


def cycles_caption(sweep: Sweep) -> str:
    """How much faster each scheme is at its highest sparsity, and how near the bound."""
    whole = sweep.uncut()
    shown, only = main_variant(whole)
    dense = dense_cycles(shown)
    parts = [f"Shown{only.replace(', ', ': ', 1)}"] if only else []
    for curve in curves(shown.done, "cycles"):
        at = curve.points[-1]
        faster = f", {times_faster(dense / at.mean)} than dense" if dense else ""
        parts.append(f"{curve.label} at {percent(at.x)} takes {at.mean:,.0f} cycles{faster}")
    ratios = (whole.done["cycles"] / whole.done["bound_cycles"]).dropna().tolist()
    bound = f" Cycles are {span(ratios)} times the hardware's bound." if ratios else ""
    missing = "" if dense else " No run has sparsity 0, so no speed-up is given."
    return f"{'; '.join(parts)}.{bound}{missing} {cut_note(sweep)}{basis(sweep)}"


def _timed_points(sweep: Sweep) -> list[tuple[str, list[dict[str, object]]]]:
    """(title, layers) of up to three runs: dense, then schemes at a sparsity that they share."""
    rows = sweep.done[sweep.done["timed_layers"] > 0]
    first = rows[rows["sparsity"] == 0].head(1)
    pruned = rows[rows["sparsity"] > 0]
    shared = pruned.groupby("sparsity")["scheme"].nunique()
    chosen = [("dense", row) for row in first.to_dict("records")]
    if len(shared):
        best = sorted(shared[shared == shared.max()].index)
        own = pruned[pruned["sparsity"] == best[len(best) // 2]].drop_duplicates("scheme")
        points = sorted(own.to_dict("records"), key=lambda p: scheme_rank(p["scheme"]))
        chosen += [(f"{p['scheme']} {percent(p['sparsity'])}", p) for p in points]
    return [
        (title, dig(sweep.records[point["id"]], "stages.simulate.layers"))
        for title, point in chosen[:3]
    ]


def draw_layer_cycles(sweep: Sweep) -> Figure:
    """The cycles of each layer, by what ran in them."""
    points = _timed_points(sweep)
    names, kinds = _layer_names(points), _kinds(points)
    figure, grid = panels(1, len(points), [1.3 + 0.17 * len(names)])
    for axes, (title, layers) in zip(grid[0], points, strict=True):
        rows = [_layer(layers, name) for name in names]
        parts = {kind: [float(str(row.get(kind) or 0)) for row in rows] for kind in kinds}
        part_bars(axes, names, parts)
        axes.set_title(title)
        if axes is not grid[0][0]:
            axes.set_yticks([])
    right = max(axes.get_xlim()[1] for axes in grid[0])
    for axes in grid[0]:
        axes.set_xlim(0, right)
    grid[0][0].set_xlabel("Thousand cycles")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=6,
        frameon=False,
        fontsize=7.5,
    )
    return figure


def _layer_names(points: list[tuple[str, list[dict[str, object]]]]) -> list[str]:
    """The layers of the longest list: a layer that was pruned whole has no row."""
    longest = max((layers for _, layers in points), key=len)
    return [str(layer["name"]) for layer in longest]


def _layer(layers: list[dict[str, object]], name: str) -> dict[str, object]:
    return next((layer for layer in layers if layer["name"] == name), {"cycles": 0})


def _kinds(points: list[tuple[str, list[dict[str, object]]]]) -> list[str]:
    """What the cycles are split by, under the target's own names."""
    names = dict.fromkeys(key for _, layers in points for layer in layers for key in layer)
    return [name for name in names if name not in ("name", "cycles")]


def layer_cycles_caption(sweep: Sweep) -> str:
    """Where the time goes."""
    parts = []
    points = _timed_points(sweep)
    kinds = _kinds(points)
    for title, layers in points:
        total = sum(float(str(layer["cycles"])) for layer in layers)
        slowest = max(layers, key=lambda layer: float(str(layer["cycles"])))
        share = 100 * float(str(slowest["cycles"])) / total if total else 0.0
        busy = {m: sum(float(str(layer.get(m) or 0)) for layer in layers) for m in kinds}
        most = max(busy, key=lambda m: busy[m])
        parts.append(
            f"{title}: {slowest['name']} is the slowest layer ({share:.0f} % of the cycles), "
            f"{most} the largest part"
        )
    split = "A cycle in which several units work counts for the first of them, as in the legend."
    return f"{'; '.join(parts)}. {split}"
