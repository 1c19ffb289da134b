"""papers/000 on other vector engines: networks pruned at the tile of each engine.

    python scripts/engine_cycles.py                # all of results/engines; hours, of training
    python scripts/engine_cycles.py --no-sweep     # without training; minutes on one core

Runs what is missing of `gpw sweep +experiment=engines`, which fine-tunes ResNet-20 at the tile of
each engine, then counts cycles and writes them into the folder: ``cycles.csv``, the figure
``speedup.png``/``.svg`` and the table ``speedup.md``.

Cycles need no training: ResNet-20 with the shipped weights for CIFAR-10, ResNet-18 and -50 at
224x224 with random ones, masks by scheme gpw, criterion l1 in each layer, at the tile of the target
(1 x n for MAERI). Accuracy is that of the sweep's integers on the engine.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from gpw_cli.config.compose import compose
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.report.load import load_sweep
from gpw_cli.report.style import drawing, panels, render
from gpw_cli.report.targets import Series, accuracies, draw_series, name_series
from gpw_cli.stages.untrained import masks_untrained, untrained_costs, untrained_network
from gpw_cli.targets.registry import npu_of

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.stages.costs import NetworkCosts
    from gpw_cli.targets.base import Timing

NETWORKS = {
    "resnet20": (),
    "resnet18": ("model=resnet18", "data=imagefolder", "data.size=224", "data.channels=3"),
    "resnet50": ("model=resnet50", "data=imagefolder", "data.size=224", "data.channels=3"),
}
CLASSES = {"resnet20": 10}
SPARSITIES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
# label in the figure: overrides; the first six are drawn
TARGETS = {
    "vta": ("target=vta",),
    "nvdla_small": ("target=nvdla_small",),
    "nvdla_large": ("target=nvdla_large",),
    "dnnweaver": ("target=dnnweaver",),
    "simba": ("target=simba",),
    "maeri": ("target=maeri",),
    # the primer gives nv_small 1 GB/s and 2048 multipliers 20 GB/s, at 1 GHz
    "nvdla_small, 1 GB/s": ("target=nvdla_small", "target.dram_bytes=1"),
    "nvdla_large, 20 GB/s": ("target=nvdla_large", "target.dram_bytes=20"),
    "nvdla_large, latency 0": ("target=nvdla_large", "target.dram_latency=0"),
    "nvdla_full as it is": ("target=nvdla_full",),
    "nvdla_full as it is, 20 GB/s": ("target=nvdla_full", "target.dram_bytes=20"),
}
MEASURED = ("npu_accuracy", "finetune_epochs")
DRAWN = ("vta", "nvdla_small", "nvdla_large", "dnnweaver", "simba", "maeri")


@dataclass(frozen=True)
class Row:
    """One run. ``removed``: share of the weights of the pruned layers that is gone.

    ``cut``: no path from the image to the logits is left, because a layer of few groups lost all of
    them; not drawn.
    """

    network: str
    target: str
    tile: str
    sparsity: float
    removed: float
    cycles: int
    bound_cycles: int
    dense_cycles: int
    dense_bound: int
    milliseconds: float
    dram_bytes: int
    busiest: str
    hypothetical: bool
    cut: bool
    npu_accuracy: float | None  # of the integers, percent, mean over seeds
    finetune_epochs: int | None

    @property
    def speedup(self) -> float:
        """Over the dense network on the same engine."""
        return self.dense_cycles / self.cycles

    @property
    def bound_speedup(self) -> float:
        """What the bounds alone would give."""
        return self.dense_bound / self.bound_cycles


@cache
def network(name: str) -> tuple[nn.Module, NetworkCosts]:
    """The dense network, in float and ready to be quantized without some of its weights."""
    config = compose(list(NETWORKS[name]))
    model = untrained_network(config, CLASSES.get(name, 1000))
    return model, untrained_costs(config, model)


@cache
def dense_integers(name: str) -> IntGraph:
    """The dense network in integers."""
    return network(name)[1].integers({})


def first_layer(graph: IntGraph) -> str | None:
    """The convolution that reads the image."""
    own = (node for node in graph.nodes if isinstance(node, IntConv))
    return next((node.name for node in own if node.input == graph.input.name), None)


@cache
def pruned(name: str, tile: tuple[int, int], sparsity: float) -> tuple[IntGraph, float]:
    """The integer network with the groups of ``tile`` gone, and the share of weights that is."""
    model, costs = network(name)
    size = (f"pruning.tile_out={tile[0]}", f"pruning.tile_in={tile[1]}")
    config = compose([*NETWORKS[name], f"sparsity={sparsity}", *size])
    result = masks_untrained(config, model)
    assert result is not None
    return costs.integers(result.bools), result.sparsity_prunable


def train(folder: Path) -> None:
    """Run `gpw sweep +experiment=engines` into ``folder``, unless all of its runs are there."""
    if (folder / "sweep.json").exists() and (load_sweep(folder).frame["status"] == "done").all():
        return
    where = ("--name", folder.name, f"runtime.results={folder.parent}")
    command = (sys.executable, "-m", "gpw_cli", "sweep", "+experiment=engines", *where)
    subprocess.run(command, check=True)


def trained(folder: Path) -> pd.DataFrame:
    """The finished runs of ``folder`` on the drawn engines; empty if there is no sweep."""
    if not (folder / "sweep.json").exists():
        return pd.DataFrame(columns=["target", "scheme", "sparsity", *MEASURED])
    done = load_sweep(folder).done
    return done[done["target"].isin(DRAWN)]


def rows(name: str, label: str, runs: pd.DataFrame) -> Iterator[Row]:
    """Dense, then every sparsity. ``runs``: of ``trained``."""
    config = compose([*NETWORKS[name], *TARGETS[label]])
    npu = npu_of(config.target)
    dense: Timing | None = None
    for sparsity in SPARSITIES:
        graph, removed = (
            pruned(name, npu.tile, sparsity) if sparsity else (dense_integers(name), 0.0)
        )
        own = runs[(runs["target"] == label) & (runs["sparsity"] == sparsity)]
        accuracy, epochs = own[list(MEASURED)].mean() if name == "resnet20" else (nan, nan)
        compiled = npu.compile(graph)
        timing = compiled.time()
        dense = dense or timing
        yield Row(
            network=name,
            target=label,
            tile=f"{npu.tile[0]}x{npu.tile[1]}",
            sparsity=sparsity,
            removed=round(removed, 4),
            cycles=timing.cycles,
            bound_cycles=timing.bound_cycles,
            dense_cycles=dense.cycles,
            dense_bound=dense.bound_cycles,
            milliseconds=round(timing.milliseconds, 4),
            dram_bytes=int(sum(timing.dram_bytes.values())),
            busiest=max(timing.bound, key=lambda unit: timing.bound[unit]),
            hypothetical="hypothetical" in compiled.facts and sparsity > 0,
            cut=first_layer(graph) != first_layer(dense_integers(name)),
            npu_accuracy=None if pd.isna(accuracy) else round(accuracy, 2),
            finetune_epochs=None if pd.isna(epochs) else int(epochs),
        )


def draw(found: Sequence[Row], measured: list[Series], folder: Path) -> None:
    """Times faster than dense, a panel a network, the bound dotted; accuracy of ResNet-20 below."""
    names = list(dict.fromkeys(row.network for row in found))
    shown = [[_series(found, name, target) for target in DRAWN] for name in names]
    titles = [f"{name}: times faster than dense (bound dotted)" for name in names]
    if measured:
        shown.append(measured)
        titles.append("resnet20: test accuracy of the integers (%)")
    with drawing("engines"):
        figure, grid = panels(len(shown), 1, [2.5] * len(shown))
        for (axes,), title, series in zip(grid, titles, shown, strict=True):
            draw_series(axes, series)
            axes.set(title=title)
        for (axes,) in grid[: len(names)]:
            axes.set_ylim(0, max(max(one.y) for group in shown[: len(names)] for one in group) + 1)
        for (axes,) in grid:
            axes.set_xlim(-3, 122)
        if measured:
            grid[-1][0].margins(y=0.12)  # the names beside the lowest points
        grid[-1][0].set_xlabel(f"Sparsity of the pruned layers (%)\n{_assumed(found)}")
        figure.draw_without_rendering()
        for (axes,), series in zip(grid, shown, strict=True):
            name_series(axes, series)
        png, svg = render(figure)
    (folder / "speedup.png").write_bytes(png)
    (folder / "speedup.svg").write_text(svg)


def _assumed(found: Sequence[Row]) -> str:
    names = dict.fromkeys(r.target for r in found if r.hypothetical and r.target in DRAWN)
    return f"hypothetical, the stock hardware skips no zero tiles:\n{', '.join(names)}"


def _series(found: Sequence[Row], name: str, target: str) -> Series:
    own = [r for r in found if (r.network, r.target) == (name, target) and not r.cut]
    return Series(
        target,
        [row.sparsity for row in own],
        [row.speedup for row in own],
        [row.bound_speedup for row in own],
    )


def table(found: Sequence[Row]) -> Iterator[str]:
    """Markdown: a row an engine."""
    names = list(dict.fromkeys(row.network for row in found))
    yield "| engine | tile | " + " | ".join(f"{n}, 50 % | 90 %" for n in names) + " |"
    yield "| --- | --- |" + " --- | --- |" * len(names)
    for target in TARGETS:
        own = {(r.network, r.sparsity): r for r in found if r.target == target}
        cells = []
        for name in names:
            for sparsity in (0.5, 0.9):
                row = own[name, sparsity]
                cells.append("cut" if row.cut else f"{row.speedup:.2f} ({row.bound_speedup:.2f})")
        first = next(iter(own.values()))
        mark = " *" if any(row.hypothetical for row in own.values()) else ""
        yield f"| {target}{mark} | {first.tile} | " + " | ".join(cells) + " |"


def main() -> None:
    """Everything, into the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results/engines"))
    parser.add_argument("--no-sweep", action="store_true", help="train nothing")
    args = parser.parse_args()
    if not args.no_sweep:
        train(args.folder)
    args.folder.mkdir(parents=True, exist_ok=True)
    runs = trained(args.folder)
    found = [row for name in NETWORKS for label in TARGETS for row in rows(name, label, runs)]
    with (args.folder / "cycles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(found[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in found)
    draw(found, accuracies(runs), args.folder)
    text = "\n".join(table(found))
    (args.folder / "speedup.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
