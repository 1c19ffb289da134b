"""The frontier beside pruning as published: one figure and one table, from results/ alone.

    python scripts/frontier.py --recount      # cycles of the masks of paper_gpw with today's compiler
    python scripts/frontier.py                # results/frontier/figures/overview.png, .svg, table.md

paper_gpw was simulated when the compiler still spent more passes on every network. ``--recount``
compiles its masks again, on the shipped weights: exact but for a pass or two that the scales of the
fine-tuned weights may change. It writes results/frontier/recounted.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

import gpw_cli as gpw
from gpw_cli.config.compose import compose
from gpw_cli.data.pictures import normalise
from gpw_cli.graph.trace import trace
from gpw_cli.models.bundled import bundled_weights
from gpw_cli.models.checkpoint import import_checkpoint
from gpw_cli.models.registry import build_model
from gpw_cli.pruning.bits import from_bits
from gpw_cli.pruning.groups import Scheme, group_layout
from gpw_cli.report.style import MARKERS, ROLES, drawing, render
from gpw_cli.stages.costs import NetworkCosts
from gpw_cli.stages.services import Silent, open_services

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "frontier"
PAPER = ROOT / "results" / "paper_gpw"
RECOUNTED = OUT / "recounted.json"


def costs() -> NetworkCosts:
    config = compose(["scheme=gpw", "pruning.keep_shift=true"])
    images = open_services(config, Silent()).pictures(config)
    model = build_model("resnet20", 10, 3, "A")
    weights = bundled_weights("resnet20", "A", "cifar10")
    assert weights is not None
    import_checkpoint(weights, model)
    graph = trace(model.eval(), (3, 32, 32), images.mean, images.std)
    few = normalise(images.train.images[:512], images.mean, images.std)
    return NetworkCosts(graph, few, config)


def recount() -> None:
    """Cycles of every mask of paper_gpw; schemes of small groups save nothing and are left out."""
    network, found = costs(), {}
    for file in sorted((PAPER / "points").glob("*.json")):
        record = json.loads(file.read_text())
        axes = record["axes"]
        if axes["scheme"] not in ("gpw", "block", "dense") or axes["seed"] != 0:
            continue
        masks = {}
        for layer in record["stages"].get("prune", {}).get("layers", ()):
            layout = group_layout(Scheme(axes["scheme"]), tuple(layer["shape"]), (16, 16))
            masks[layer["name"]] = layout.expand(from_bits(layer["kept"], layer["grid"]))
        name = record["id"].rpartition(",seed=")[0] or record["id"]
        found[name] = network.compiled(masks)[1].cycles
        print(name, found[name], flush=True)
    OUT.mkdir(exist_ok=True)
    RECOUNTED.write_text(json.dumps(found, indent=1) + "\n")


def published() -> pd.DataFrame:
    """Mean accuracy on VTA and today's cycles of every setting of paper_gpw that was recounted."""
    frame = gpw.load_results(PAPER)
    frame = frame[frame["status"].eq("done") & frame["npu_accuracy"].notna()].copy()
    cycles = json.loads(RECOUNTED.read_text())
    name = [i.rpartition(",seed=")[0] or i for i in frame["id"]]
    frame["cycles"] = [cycles.get(n, np.nan) for n in name]
    frame["setting"] = name
    frame = frame.dropna(subset=["cycles"])
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


def cost_of(rows: pd.DataFrame, accuracy: float) -> float | None:
    """Cycles at which the front of ``rows`` reaches ``accuracy``, between its points linearly."""
    front, best = [], -np.inf
    for row in rows.sort_values("cycles").itertuples():
        if row.accuracy > best:
            best = float(row.accuracy)
            front.append((best, float(row.cycles)))
    reached = [n for n, (value, _) in enumerate(front) if value >= accuracy]
    if not reached:
        return None
    n = reached[0]
    if n == 0:
        return front[0][1]
    (a0, c0), (a1, c1) = front[n - 1], front[n]
    return c0 + (c1 - c0) * (accuracy - a0) / (a1 - a0)


def draw(old: pd.DataFrame, new: pd.DataFrame) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for scheme in ("block", "gpw"):
        own = old[old["scheme"] == scheme].sort_values("cycles")
        colour, label = ROLES[scheme][0], f"{scheme} as published (10 epochs)"
        axes.plot(
            own["cycles"] / 1e3, own["accuracy"], MARKERS[scheme], color=colour, ms=5, label=label
        )
    pruned = new[new["scheme"] == "gpw"].sort_values("cycles")
    axes.plot(pruned["cycles"] / 1e3, pruned["accuracy"], "-o", color=ROLES["fine"][0], ms=6,
              label="under a budget of cycles (30 epochs, distilled)")  # fmt: skip
    dense = new[(new["scheme"] == "dense") & (new["model"] != "resnet20")]
    if len(dense):
        axes.plot(dense["cycles"] / 1e3, dense["accuracy"], "*", color=ROLES["other"][0], ms=11,
                  label="small dense networks (75 epochs, distilled)")  # fmt: skip
        for row in dense.itertuples():
            axes.annotate(f"{row.model}", (row.cycles / 1e3, row.accuracy), xytext=(6, -10),
                          textcoords="offset points", fontsize=8)  # fmt: skip
    whole = old[old["scheme"] == "dense"]
    axes.plot(whole["cycles"] / 1e3, whole["accuracy"], "D", color=ROLES["ink"][0], ms=6,
              label="ResNet-20, dense")  # fmt: skip
    axes.set(xlabel="thousand cycles of one image on VTA", ylabel="accuracy on VTA, int8 (%)")
    axes.set_ylim(62, 93)
    axes.grid(alpha=0.4)
    above = axes.secondary_xaxis("top", functions=(lambda x: x / 100, lambda x: x * 100))
    above.set_xlabel("milliseconds at 100 MHz")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    (OUT / "figures").mkdir(exist_ok=True)
    png, svg = render(figure)
    (OUT / "figures" / "overview.png").write_bytes(png)
    (OUT / "figures" / "overview.svg").write_text(svg)


def table(old: pd.DataFrame, new: pd.DataFrame) -> str:
    lines = ["| network | on VTA (%) | cycles | ms | seeds |", "| --- | --- | --- | --- | --- |"]
    for row in new.sort_values("cycles").itertuples():
        name = row.model if row.scheme == "dense" else f"budget {_budget(row.setting)}"
        spread = f" ± {row.sd:.2f}" if row.seeds > 1 else ""
        lines.append(
            f"| {name} | {row.accuracy:.2f}{spread} | {row.cycles:,.0f} | {row.cycles / 1e5:.3f} "
            f"| {row.seeds} |"
        )
    lines += ["", "| cycles that it takes | 85 % | 90 % |", "| --- | --- | --- |"]
    for name, rows in (
        ("pruning as published", old[old["scheme"] != "dense"]),
        ("under a budget of cycles", new[new["scheme"] == "gpw"]),
    ):
        cells = [cost_of(rows, value) for value in (85, 90)]
        shown = ["not reached" if c is None else f"{c:,.0f}" for c in cells]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _budget(setting: str) -> str:
    parts = dict(text.split("=", 1) for text in setting.split(",") if "=" in text)
    return f"{int(parts['pruning.budget']):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recount", action="store_true", help="compile paper_gpw's masks again")
    if parser.parse_args().recount:
        recount()
        return
    old, new = published(), frontier()
    with drawing("overview"):
        draw(old, new)
    text = table(old, new)
    (OUT / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
