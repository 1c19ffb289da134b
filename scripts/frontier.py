"""The frontier compared with published pruning: a figure and a table from results/.

    python scripts/frontier.py      # results/frontier/figures/overview.png, .svg

paper_gpw is drawn as measured, with an earlier compiler that takes more cycles: 238,518 for the
dense network (230,776 now), 95,421 for gpw at 90 % (83,204), 57,887 for block at 90 % (21,261).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

import gpw_cli as gpw
from gpw_cli.report.looks import light, look
from gpw_cli.report.style import drawing, render

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "frontier"
PAPER = ROOT / "results" / "paper_gpw"


def published() -> pd.DataFrame:
    """Mean accuracy on VTA and cycles of dense, block and gpw as committed in paper_gpw."""
    frame = gpw.load_results(PAPER)
    known = frame["scheme"].isin(["dense", "block", "gpw"]) & frame["npu_accuracy"].notna()
    frame = frame[frame["status"].eq("done") & known].copy()
    frame["setting"] = [i.rpartition(",seed=")[0] or i for i in frame["id"]]
    rows = frame.groupby(["setting", "scheme"]).agg(
        accuracy=("npu_accuracy", "mean"), cycles=("cycles", "mean"), seeds=("seed", "nunique")
    )
    return rows.reset_index()


def frontier() -> pd.DataFrame:
    frame = gpw.load_results(OUT)
    frame = frame[frame["status"].eq("done") & frame["npu_accuracy"].notna()].copy()
    frame["setting"] = [i.rpartition(",seed=")[0] or i for i in frame["id"]]
    rows = frame.groupby(["setting", "scheme", "model"], sort=False).agg(
        accuracy=("npu_accuracy", "mean"),
        sd=("npu_accuracy", "std"),
        cycles=("cycles", "mean"),
        seeds=("seed", "nunique"),
    )
    return rows.reset_index()


def cost_of(rows: pd.DataFrame, accuracy: float) -> str:
    """Cycles at which the front of ``rows`` reaches ``accuracy``, by linear interpolation."""
    front, best = [], -np.inf
    for row in rows.sort_values("cycles").itertuples():
        if row.accuracy > best:
            best = float(row.accuracy)
            front.append((best, float(row.cycles)))
    reached = [n for n, (value, _) in enumerate(front) if value >= accuracy]
    if not reached:
        return "not reached"
    n = reached[0]
    if n == 0:
        return f"under {front[0][1]:,.0f}"
    (a0, c0), (a1, c1) = front[n - 1], front[n]
    return f"{c0 + (c1 - c0) * (accuracy - a0) / (a1 - a0):,.0f}"


def label_of(model: str, setting: str) -> str:
    """``resnet8``, or ``resnet8 16-32-96`` for other widths."""
    widths = re.search(r"model\.widths=\D([\d,]+)", setting)
    return f"{model} {widths[1].replace(',', '-')}" if widths else model


def draw(old: pd.DataFrame, new: pd.DataFrame) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    paper, ink, blue = light("page"), look("scheme", "dense"), look("scheme", "gpw").colour
    for scheme in ("block", "gpw"):
        own = old[old["scheme"] == scheme].sort_values("cycles")
        mine, label = (
            look("scheme", scheme),
            f"{scheme} as published (10 epochs; earlier compiler, more cycles)",
        )
        x, y = own["cycles"] / 1e3, own["accuracy"]
        axes.plot(x, y, mine.marker, color=mine.colour, ms=5, mfc=paper, label=label)
    pruned = new[new["scheme"] == "gpw"].sort_values("cycles")
    axes.errorbar(pruned["cycles"] / 1e3, pruned["accuracy"], pruned["sd"], fmt="-o", color=blue,
                  ms=5, capsize=2,
                  label="under a budget of cycles (30 epochs, distilled; 3 seeds)")  # fmt: skip
    dense = new[(new["scheme"] == "dense") & (new["model"] != "resnet20")]
    if len(dense):
        x, y = dense["cycles"] / 1e3, dense["accuracy"]
        least, most = dense["seeds"].min(), dense["seeds"].max()
        seeds = f"{least} to {most} seeds" if least < most else f"{most} seeds"
        axes.errorbar(x, y, dense["sd"].fillna(0), fmt=ink.marker, color=ink.colour, mfc=paper,
                      ms=11, capsize=2,
                      label=f"small dense networks (75 epochs, distilled; {seeds})")  # fmt: skip
        lifted: list[float] = []  # where a name stands above a marker, thousand cycles
        for row in dense.itertuples():
            # on the line of the pruned ones: above it, where no other marker is
            on_it = np.interp(row.cycles, pruned["cycles"], pruned["accuracy"]) < row.accuracy + 1
            label, at = label_of(row.model, row.setting), (row.cycles / 1e3, row.accuracy)
            beside = sum(abs(at[0] - other) < 20 for other in lifted)
            away, side = ((0, 12 + 11 * beside), "center") if on_it else ((6, -10), "left")
            lifted += [at[0]] if on_it else []
            axes.annotate(label, at, xytext=away, ha=side, textcoords="offset points", fontsize=8)
    own = new[(new["scheme"] == "dense") & (new["model"] == "resnet20")]
    whole = own if len(own) else old[old["scheme"] == "dense"]  # of the compiler that is compared
    axes.plot(whole["cycles"] / 1e3, whole["accuracy"], ink.marker, color=ink.colour, ms=11,
              label="ResNet-20, dense")  # fmt: skip
    axes.set(xlabel="thousand cycles of one image on VTA", ylabel="accuracy on VTA, int8 (%)")
    axes.set_ylim(62, 94.5)
    axes.grid(alpha=0.4)
    above = axes.secondary_xaxis("top", functions=(lambda x: x / 100, lambda x: x * 100))
    above.set_xlabel("milliseconds at 100 MHz")
    axes.legend(loc="lower right", fontsize=7.5, frameon=False)
    (OUT / "figures").mkdir(exist_ok=True)
    png, svg = render(figure)
    (OUT / "figures" / "overview.png").write_bytes(png)
    (OUT / "figures" / "overview.svg").write_text(svg)


def costs(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """The cycles for 85 and 90 % accuracy."""
    lines = ["| cycles that it takes | 85 % | 90 % |", "| --- | --- | --- |"]
    for name, rows in (
        ("pruning as published", old[old["scheme"] != "dense"]),
        ("under a budget of cycles", new[new["scheme"] == "gpw"]),
    ):
        lines.append(f"| {name} | {cost_of(rows, 85)} | {cost_of(rows, 90)} |")
    return "\n".join(lines)


def main() -> None:
    old, new = published(), frontier()
    with drawing("overview"):
        draw(old, new)
    print(costs(old, new))


if __name__ == "__main__":
    main()
