"""EIE beside VTA, and balanced beside fine pruning, from committed results alone.

    python scripts/eie_figures.py        # reads results/eie_*, paper_gpw and frontier

Writes to results/eie: engines.csv and figures/engines (accuracy against time, cycles and storage),
balanced.csv and figures/balanced (load balance, cycles and accuracy of balanced and fine).
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gpw_cli.models.registry import build_model
from gpw_cli.report.style import MARKERS, drawing, light, panels, render, scheme_colour

RESULTS = Path(__file__).resolve().parent.parent / "results"
SWEEPS = ("eie_resnet20", "paper_gpw", "frontier")
SCHEMES = {"eie": ("dense", "fine", "balanced"), "vta": ("dense", "gpw", "block", "fine")}
COLUMNS = ("scheme", "sparsity", "epochs", "target", "accuracy", "images", "cycles", "ms", "kib")
CAPTION = (
    "ResNet-20 on CIFAR-10. Open marks, dashed: EIE, whose cycles are those of matrix-vector "
    "products alone (pooling and shortcut additions are left to a host and not timed) and whose "
    "accuracy is its own 16-bit arithmetic with 16 shared weights a layer. Filled marks: the whole "
    "network on VTA, int8. Top: EIE of 64 PEs at 800 MHz, VTA of 256 multipliers at 100 MHz. "
    "Middle: cycles with 256 multipliers each, whatever the clock. Bottom: weights as each engine "
    "stores them (EIE: entries, pointers, codebooks; VTA: 8 bits for each weight kept). "
)


def points(sweep: str) -> Iterator[dict[str, Any]]:
    """Finished points of a sweep in scope layer, seed 0; nothing where the sweep is not there."""
    for file in sorted((RESULTS / sweep / "points").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        pruning = record["config"]["pruning"]
        usual = pruning["scope"] == "layer" and pruning.get("rounding", "nearest") == "nearest"
        if record["status"] == "done" and record["config"]["seed"] == 0 and usual:
            yield record


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    config, stages = record["config"], record["stages"]
    metrics, pruned = stages["simulate"]["metrics"], "prune" in stages
    return {
        "scheme": config["pruning"]["scheme"],
        "sparsity": config["pruning"]["sparsity"] if pruned else 0.0,
        "epochs": config["finetune"]["train"]["epochs"] if pruned else 0,
        "target": config["target"]["name"],
        "accuracy": metrics["test_accuracy"],
        "images": metrics["n_test"],
        "int8": stages["fuse"]["metrics"]["test_accuracy"],
        "cycles": metrics["cycles"],
        "ms": metrics["milliseconds"],
        "kib": stored_bits(stages) / 8 / 1024,
        "balance": metrics.get("pe_utilisation"),
        "energy_uj": metrics.get("energy_nj", float("nan")) / 1e3,
    }


def stored_bits(stages: dict[str, Any]) -> int:
    """What EIE counts itself; on VTA 8 bits for each weight that is left of ResNet-20."""
    own = stages["simulate"]["metrics"].get("stored_bits")
    if own is not None:
        return int(own)
    sizes = [(p.numel(), p.ndim) for p in build_model("resnet20", 10, 3, "A").parameters()]
    weights, everything = sum(n for n, d in sizes if d > 1), sum(n for n, _ in sizes)
    gone = stages.get("prune", {"metrics": {}})["metrics"].get("sparsity_network", 0.0)
    return 8 * (weights - round(gone * everything))


def draw_engines(data: pd.DataFrame, path: Path) -> None:
    """Three panels of accuracy: milliseconds, cycles at equal multipliers, KiB."""
    plots = (
        ("ms", "ms an image, each engine at its own clock", {"eie": "eie", "vta": "vta"}),
        ("cycles", "cycles an image, 256 multipliers each", {"eie_256": "eie", "vta": "vta"}),
        ("kib", "KiB of weights", {"eie": "eie", "vta": "vta"}),
    )
    with drawing("engines"):
        figure, axes = panels(3, 1, [2.7, 2.7, 2.7])
        for (x, label, targets), (pane,) in zip(plots, axes, strict=True):
            for target, family in targets.items():
                for scheme in SCHEMES[family]:
                    own = data[(data["target"] == target) & (data["scheme"] == scheme)]
                    draw_one(pane, own.sort_values("sparsity"), x, family, scheme)
            pane.set_xscale("log")
            pane.set_xlabel(label)
            pane.set_ylabel("accuracy, %")
        axes[0][0].legend(fontsize=7, frameon=False, ncols=2)
        epochs = data[data["scheme"] != "dense"].groupby("target")["epochs"].unique()
        trained = ", ".join(f"{t} {'/'.join(map(str, sorted(e)))}" for t, e in epochs.items())
        images = data.groupby("target")["images"].max()
        tested = ", ".join(f"{target} {count:,}" for target, count in images.items())
        text = CAPTION + f"Epochs of fine-tuning: {trained}. Test images: {tested}. One seed."
        figure.supxlabel("\n".join(textwrap.wrap(text, 98)), fontsize=6.8, x=0.01, ha="left")
        save(figure, path)


def draw_one(pane: Any, own: pd.DataFrame, x: str, family: str, scheme: str) -> None:
    if own.empty:
        return
    colour = scheme_colour(scheme) if scheme != "dense" else light("ink")
    pane.plot(
        own[x],
        own["accuracy"],
        color=colour,
        marker=MARKERS.get(scheme, "*"),
        markersize=8 if scheme == "dense" else 6,
        markerfacecolor=light("page") if family == "eie" else colour,
        linestyle="--" if family == "eie" else "-",
        label=f"{scheme}, {family.upper()}",
    )


def draw_balanced(data: pd.DataFrame, path: Path) -> None:
    """Load balance, cycles and accuracy of the two schemes, a column a network."""
    networks = list(dict.fromkeys(data["network"]))
    columns = (("balance", "load balance"), ("cycles", "cycles"), ("accuracy", "accuracy, %"))
    with drawing("balanced"):
        figure, axes = panels(3, len(networks), [1.9, 1.9, 1.9])
        for row, (column, label) in enumerate(columns):
            for place, network in enumerate(networks):
                pane = axes[row][place]
                for scheme in ("fine", "balanced"):
                    own = data[(data["network"] == network) & (data["scheme"] == scheme)]
                    mean = own.groupby("sparsity")[column].agg(["mean", "std"])
                    pane.errorbar(
                        100 * mean.index,
                        mean["mean"],
                        yerr=mean["std"].fillna(0),
                        color=scheme_colour(scheme),
                        marker=MARKERS[scheme],
                        capsize=3,
                        label=scheme,
                    )
                pane.set_title(network if row == 0 else "")
                pane.set_ylabel(label if place == 0 else "")
                pane.set_xticks(sorted(100 * data["sparsity"].unique()))
                if row == len(columns) - 1:
                    pane.set_xlabel("sparsity, %")
        axes[0][0].legend(fontsize=7.5, frameon=False)
        save(figure, path)


def balanced_rows() -> Iterator[dict[str, Any]]:
    for sweep, network in (("eie_mlp", "MLP, digits"), ("eie_resnet20", "ResNet-20, CIFAR-10")):
        for file in sorted((RESULTS / sweep / "points").glob("*.json")):
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["status"] == "done" and record["config"]["target"]["name"] == "eie":
                row = {"network": network, "seed": record["config"]["seed"], **row_of(record)}
                yield row


def save(figure: Any, path: Path) -> None:
    png, svg = render(figure)
    path.with_suffix(".png").write_bytes(png)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")


def main() -> None:
    folder = RESULTS / "eie"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    engines = pd.DataFrame(row_of(record) for sweep in SWEEPS for record in points(sweep))
    engines = engines.drop_duplicates(["target", "scheme", "sparsity"]).round(5)
    engines.to_csv(folder / "engines.csv", index=False)
    print(engines.to_string(index=False), "\n")
    draw_engines(engines, folder / "figures" / "engines")
    balanced = pd.DataFrame(balanced_rows()).round(5)
    balanced.to_csv(folder / "balanced.csv", index=False)
    print(balanced.to_string(index=False))
    pruned = balanced[balanced["scheme"] != "dense"]
    draw_balanced(pruned, folder / "figures" / "balanced")


if __name__ == "__main__":
    main()
