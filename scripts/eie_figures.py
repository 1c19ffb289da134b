"""EIE beside VTA, and balanced beside fine pruning, from committed results alone.

    python scripts/eie_figures.py

Reads results/eie/networks.csv (scripts/eie_networks.py), the sweeps eie_resnet20 and eie_mlp where
they were run, paper_gpw and frontier. Writes to results/eie: engines.csv and figures/engines
(accuracy against time, cycles and storage), balanced.csv and figures/balanced.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from gpw_cli.models.registry import build_model
from gpw_cli.report.looks import light, look
from gpw_cli.report.style import drawing, panels, render

TICKS = {
    "ms": (0.5, 0.7, 1, 1.5, 2, 2.5),
    "cycles": (50_000, 100_000, 200_000, 500_000, 1_000_000),
    "kib": (25, 50, 100, 200, 500, 1000),
}
RESULTS = Path(__file__).resolve().parent.parent / "results"
SWEEPS = ("eie_resnet20", "paper_gpw", "frontier")
SCHEMES = {
    "eie": ("dense", "fine", "balanced", "gpw"),
    "vta": ("dense", "gpw", "block", "fine", "frontier"),
}
CAPTION = (
    "ResNet-20 on CIFAR-10. Open marks, dashed: EIE, whose cycles are those of matrix-vector "
    "products alone (pooling and shortcut additions are left to a host and not timed), in its own "
    "16-bit arithmetic with 16 shared weights a layer. Filled marks: the whole network on VTA, "
    "int8. Top: EIE of 64 PEs at 800 MHz, VTA of 256 multipliers at 100 MHz. Middle: cycles with "
    "256 multipliers each, whatever the clock. Bottom: weights as each engine stores them (EIE: "
    "entries, pointers, codebooks; VTA: a byte a weight, whole tiles: single zeros are stored). "
)
MASKED = (
    "fine on EIE at {shares}: the mask of VTA's network, timed before fine-tuning, at the int8 "
    "accuracy of VTA's fine-tuned network, so an upper limit. "
)
MISSING = "Not trained, hence not drawn: {names}. "
TRAINING = (
    "gpw on EIE: the networks of VTA, not trained for 16 shared weights. "
    "One seed; fine-tuned for 10 epochs, the frontier for 30 with a teacher. The second dense VTA "
    "is that of the frontier's own, newer compiler."
)
TILED = ("gpw", "block")  # of their groups VTA stores none that is removed


def points(sweep: str) -> Iterator[dict[str, Any]]:
    """Finished runs of ResNet-20, seed 0, in scope layer or, of the frontier, under a budget."""
    for file in sorted((RESULTS / sweep / "points").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        pruning = record["config"]["pruning"]
        usual = pruning["scope"] == "layer" and pruning.get("rounding", "nearest") == "nearest"
        usual |= sweep == "frontier" and pruning["scope"] == "cycles"
        usual &= record["config"]["model"]["name"] == "resnet20"
        if record["status"] == "done" and record["config"]["seed"] == 0 and usual:
            yield record


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    config, stages = record["config"], record["stages"]
    metrics, pruned = stages["simulate"]["metrics"], "prune" in stages
    budget = config["pruning"]["scope"] == "cycles"
    return {
        "scheme": "frontier" if budget else config["pruning"]["scheme"],
        "sparsity": (None if budget else config["pruning"]["sparsity"]) if pruned else 0.0,
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
    """What EIE counts itself; on VTA 8 bits a weight of ResNet-20, less the tiles that are gone."""
    own = stages["simulate"]["metrics"].get("stored_bits")
    if own is not None:
        return int(own)
    sizes = [(p.numel(), p.ndim) for p in build_model("resnet20", 10, 3, "A").parameters()]
    weights, everything = sum(n for n, d in sizes if d > 1), sum(n for n, _ in sizes)
    pruned = stages.get("prune", {"metrics": {}})["metrics"]
    gone = pruned["sparsity_network"] if pruned.get("scheme") in TILED else 0.0
    return 8 * (weights - round(gone * everything))


def from_masks(engines: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows of networks.csv that no sweep has; a mask that was not fine-tuned has the accuracy of
    VTA's network.
    """
    file = RESULTS / "eie" / "networks.csv"
    trained = set(engines[["target", "scheme", "sparsity"]].itertuples(index=False, name=None))
    for row in pd.read_csv(file).to_dict("records") if file.exists() else ():
        target = "eie" if row["pes"] == 64 else f"eie_{row['pes']}"
        if (target, row["scheme"], row["sparsity"]) in trained:
            continue
        vta = engines[
            (engines["target"] == "vta")
            & (engines["scheme"] == row["scheme"])
            & (engines["sparsity"] == row["sparsity"])
        ]
        mask = row["images"] == 0
        if mask and len(vta):
            row |= {"accuracy": vta["accuracy"].iloc[0], "images": vta["images"].iloc[0]}
        yield {
            "of_mask": mask,
            **{name: row[name] for name in ("scheme", "sparsity", "accuracy", "images", "int8")},
            "target": target,
            "epochs": vta["epochs"].iloc[0] if len(vta) else 0,
            **{name: row[name] for name in ("cycles", "ms", "kib", "balance", "energy_uj")},
        }


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
                    draw_one(pane, own.sort_values(x), x, family, scheme)
            pane.set_xscale("log")
            pane.set_xticks(TICKS[x], [f"{tick:,}" for tick in TICKS[x]])
            pane.set_xticks([], minor=True)
            pane.set_xlabel(label)
            pane.set_ylabel("accuracy, %")
        axes[0][0].legend(
            fontsize=6.6,
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(0.94, 0),
            labelspacing=0.3,
        )
        text = "\n".join(textwrap.wrap(caption(data), 92))
        figure.supxlabel(text, fontsize=6.8, x=0.01, ha="left")
        save(figure, path)


def caption(data: pd.DataFrame) -> str:
    """What is compared with what, by what is there."""
    own = data[data["target"] == "eie"]
    masks = own[own["of_mask"].fillna(False).astype(bool)]
    drawn, left = masks[masks["accuracy"].notna()], masks[masks["accuracy"].isna()]
    text = CAPTION
    if len(drawn):
        shares = ", ".join(f"{100 * value:g} %" for value in sorted(drawn["sparsity"]))
        text += MASKED.format(shares=shares)
    if len(left):
        pairs = sorted(zip(left["scheme"], left["sparsity"], strict=True))
        names = ", ".join(f"{scheme} {100 * value:g} % on EIE" for scheme, value in pairs)
        text += MISSING.format(names=names)
    counted = data[data["accuracy"].notna()].groupby(["target", "scheme"])["images"].max()
    fewer = [f"{scheme} on {target} {count:,.0f}" for (target, scheme), count in counted.items()
             if count < counted.max()]  # fmt: skip
    text += f"Test images: {counted.max():,.0f}" + (f" ({', '.join(fewer)}). " if fewer else ". ")
    return text + TRAINING


def draw_one(pane: Any, own: pd.DataFrame, x: str, family: str, scheme: str) -> None:
    own = own[own["accuracy"].notna()]
    if own.empty:
        return
    mine = look("scheme", scheme)
    pane.plot(
        own[x],
        own["accuracy"],
        color=mine.colour,
        marker=mine.marker,
        markersize=8 if scheme == "dense" else 6,
        markerfacecolor=light("page") if family == "eie" else mine.colour,
        linestyle="none" if scheme == "dense" else "--" if family == "eie" else "-",
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
                        color=look("scheme", scheme).colour,
                        marker=look("scheme", scheme).marker,
                        capsize=3,
                        label=scheme,
                    )
                pane.set_title(network if row == 0 else "")
                pane.set_ylabel(label if place == 0 else "")
                if column != "accuracy":
                    pane.set_ylim(0, 1.15 * data[data["network"] == network][column].max())
                pane.set_xticks(sorted(100 * data["sparsity"].unique()))
                pane.set_xlim(100 * data["sparsity"].min() - 10, 100)
                if row == len(columns) - 1:
                    pane.set_xlabel("sparsity, %")
        axes[0][0].legend(fontsize=7.5, frameon=False)
        save(figure, path)


def balanced_rows(engines: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The MLP of the sweep, every seed; ResNet-20 as in ``engines``, on 64 PEs."""
    for file in sorted((RESULTS / "eie_mlp" / "points").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["status"] == "done":
            yield {"network": "MLP, digits", "seed": record["config"]["seed"], **row_of(record)}
    own = engines[
        (engines["target"] == "eie") & engines["scheme"].isin(["dense", "fine", "balanced"])
    ]
    for row in own.to_dict("records"):
        yield {"network": "ResNet-20, CIFAR-10", "seed": 0, **row}


def save(figure: Any, path: Path) -> None:
    png, svg = render(figure)
    path.with_suffix(".png").write_bytes(png)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")


def main() -> None:
    folder = RESULTS / "eie"
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    engines = pd.DataFrame(row_of(record) for sweep in SWEEPS for record in points(sweep))
    engines = pd.concat([engines, pd.DataFrame(from_masks(engines))], ignore_index=True)
    same = ["target", "scheme", "sparsity", "cycles"]
    engines = engines.drop_duplicates(same).round(5)
    engines.drop(columns="of_mask").to_csv(folder / "engines.csv", index=False)
    print(engines.to_string(index=False), "\n")
    draw_engines(engines, folder / "figures" / "engines")
    balanced = pd.DataFrame(balanced_rows(engines.drop(columns="of_mask"))).round(5)
    balanced.to_csv(folder / "balanced.csv", index=False)
    print(balanced.to_string(index=False))
    pruned = balanced[balanced["scheme"] != "dense"]
    draw_balanced(pruned, folder / "figures" / "balanced")


if __name__ == "__main__":
    main()
