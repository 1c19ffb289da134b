"""What quantization costs: accuracy against bits for every quantizer, and each tensor's range.

The first is drawn for sweeps that vary the quantizer or its bits, the second for any sweep whose
points were quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from gpw_cli.report.draw import EndLabel, label_ends, level
from gpw_cli.report.frame import dig
from gpw_cli.report.knobs import turned
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import light, look, panels, rank
from gpw_cli.report.tables import Table
from gpw_cli.report.words import basis, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Published beside ours: ResNet18v1 on ImageNet, papers/001; TVM's own test of the same network
# (tvm PR 3543) asserts a top-1 that is far from the 37 % which papers/001 quotes for it.
PUBLISHED = (
    "Published for ResNet18v1 on ImageNet (papers/001): one scale 37 %, profiled +4.91 points, "
    "profiled and fused +10.14 points; TVM's own test of one scale reaches 69.29 % (tvm PR 3543)."
)


def settings(sweep: Sweep) -> pd.DataFrame:
    """Quantized points but those with a turned knob: model, quantizer, bits, fp32, unfused, fused
    (percent).
    """
    found = sweep.done.dropna(subset=["fused_accuracy", "weight_bits"])
    found = found[found["id"].map(lambda point: not turned(sweep.records[point]["axes"])).eq(True)]
    fp32 = found["accuracy"].fillna(found["dense_accuracy"])
    columns = {
        "model": found["model"],
        "quantizer": found["quantizer"],
        "bits": found["weight_bits"].astype(int),
        "point": found["scheme"] + [f" {percent(s)}" if s else "" for s in found["sparsity"]],
        "fp32": fp32,
        "unfused": found["quantized_accuracy"],
        "fused": found["fused_accuracy"],
    }
    return pd.DataFrame(columns)


def varies(sweep: Sweep) -> bool:
    """Whether quantizers or bits were swept."""
    found = settings(sweep)
    return len(found[["quantizer", "bits"]].drop_duplicates()) > 1


def draw_bits(sweep: Sweep) -> Figure:
    """One panel a network: accuracy after fusion against bits, a line a quantizer."""
    found = settings(sweep)
    panes = list(found.groupby(["model", "point"], sort=False))
    figure, grid = panels(len(panes), 1, [2.6] * len(panes))
    names = sorted(set(found["quantizer"]), key=lambda name: rank("quantizer", name))
    for (axes,), ((model, point), rows) in zip(grid, panes, strict=True):
        axes.set(title=f"{model}, {point}: accuracy of the integers (%)")
        _bits_panel(axes, rows, names)
    grid[-1][0].set_xlabel("Bits of weights and activations")
    return figure


def _bits_panel(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    bits = sorted(set(rows["bits"]), reverse=True)
    ends = []
    for name in names:
        own, drawn = rows[rows["quantizer"] == name], look("quantizer", name)
        if own.empty:
            continue
        means = own.groupby("bits")["fused"].mean().sort_index(ascending=False)
        places = [bits.index(b) for b in means.index]
        axes.plot(places, means.tolist(), color=drawn.colour, marker=drawn.marker)
        ends.append(EndLabel(places[-1], float(means.iloc[-1]), name, drawn.colour))
    longest = max(len(name) for name in names)
    axes.set_xlim(-0.3, len(bits) - 1 + 0.25 + 0.14 * longest * max(1, len(bits) - 1) / 4)
    axes.set_xticks(range(len(bits)), [str(b) for b in bits])
    low, high = axes.get_ylim()
    spare = 0.1 * (high - low)  # for names at chance level, and the name of the fp32 line
    axes.set_ylim(low - spare, high + spare)
    level(axes, float(rows["fp32"].mean()), f"fp32 {rows['fp32'].mean():.2f}")
    label_ends(axes, ends)


def bits_caption(sweep: Sweep) -> str:
    """Loss at the most bits, where each quantizer breaks, and the published numbers."""
    found = settings(sweep).assign(loss=lambda f: f["fp32"] - f["fused"])
    most = found[found["bits"] == found["bits"].max()]
    ranked = most.groupby("quantizer")["loss"].mean().sort_values()
    text = ", ".join(f"{name} {loss:+.2f}" for name, loss in ranked.items())
    gain = (found["fused"] - found["unfused"]).loc[most.index]
    fused = f" Fusion changes these by {gain.min():+.2f} to {gain.max():+.2f} percentage points."
    count = len(most[["model", "point"]].drop_duplicates())
    mean = f" (mean of {count} networks)" if count > 1 else ""
    head = f"Percentage points lost against fp32 at {int(found['bits'].max())} bits{mean}: {text}."
    return f"{head}{fused} {PUBLISHED} {basis(sweep)}"


def bits_table(sweep: Sweep) -> Table:
    """Every setting: fp32, unfused, fused, and the loss; no rows where nothing was varied."""
    rows = []
    found = settings(sweep) if varies(sweep) else settings(sweep).head(0)
    for (model, point, name, bits), own in found.groupby(
        ["model", "point", "quantizer", "bits"], sort=False
    ):
        mean = own[["fp32", "unfused", "fused"]].mean()
        shown = [f"{mean[c]:.2f}" for c in ("fp32", "unfused", "fused")]
        rows.append(
            [f"{model} {point}", str(name), str(bits), *shown, f"{mean.fused - mean.fp32:+.2f}"]
        )
    head = ["network", "quantizer", "bits", "fp32", "unfused", "fused", "fused - fp32"]
    note = f"Test accuracy in percent. {PUBLISHED}"
    return Table("quantizers", "Quantizers and bits", note, head, rows, left=2)


def _quantized_point(sweep: Sweep) -> tuple[str, int, list[dict[str, Any]]]:
    """(name, activation bits, its fused network's tensors but the logits) of the densest point, of
    several the most accurate.
    """
    rows = sweep.done[sweep.done["quantized_layers"] > 0]
    order = rows.assign(loss=-rows["fused_accuracy"])
    point = order.sort_values(["sparsity", "loss"], kind="stable").iloc[0]
    layers = dig(sweep.records[point["id"]], "stages.fuse.layers")[:-1]
    bits = 8 if pd.isna(point["act_bits"]) else int(point["act_bits"])
    return f"{point['scheme']} ({point['quantizer']}, {bits} bits)", bits, layers


def draw_scales(sweep: Sweep) -> Figure:
    """For every stored tensor: the range seen in calibration and what its int8 scale covers."""
    name, bits, rows = _quantized_point(sweep)
    steps = 2 ** (bits - 1) - 1
    rows = [row for row in rows if row["kind"] != "maxpool"]
    figure, grid = panels(1, 1, [1.0 + 0.16 * len(rows)])
    axes = grid[0][0]
    places = range(len(rows))
    low, high = [row["min"] for row in rows], [row["max"] for row in rows]
    width = [h - lo for lo, h in zip(low, high, strict=True)]
    axes.barh(places, width, left=low, height=0.55, color=light("gpw"), label="seen")
    reach = [steps * row["scale"] for row in rows]
    for sign in (-1, 1):
        ends = [sign * r for r in reach]
        shown = f"{steps} steps of the scale" if sign > 0 else None
        axes.plot(ends, places, linestyle="", marker="|", color=light("block"), label=shown)
    axes.set_yticks(places, [f"{r['name']}  2^{r['exponent']:.3g}" for r in rows], fontsize=7)
    axes.set(title=f"Ranges and scales: {name}", xlabel="Value of the tensor")
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    limit = 1.05 * max(-min(low), max(high))
    axes.set_xlim(-limit if min(low) < 0 else -0.05 * limit, limit)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def scales_caption(sweep: Sweep) -> str:
    """How much of the values the scales clip."""
    name, bits, rows = _quantized_point(sweep)
    steps = 2 ** (bits - 1) - 1
    worst = max(rows, key=lambda row: float(row["clipped"]))
    return (
        f"Every tensor that the integer network of {name} stores, with the log2 of its scale: the "
        f"range of the calibration pictures, and what {steps} steps cover. {worst['name']} is "
        f"clipped most, {100 * worst['clipped']:.3g} % of its values. {basis(sweep)}"
    )
