"""papers/000 on other vector engines: cycles of networks pruned at the tile of each engine.

    python scripts/engine_cycles.py [FOLDER]      # default results/engines; minutes on one core

Writes ``cycles.csv`` and ``speedup.png``/``.svg`` into FOLDER and prints the table of the README.
No data and no training here: ResNet-20 with the shipped weights for CIFAR-10, ResNet-18 and -50 at
224x224 with random ones, masks by scheme gpw, criterion l1 in each layer, at the tile of the target
(1 x n for MAERI). Cycles depend on the masks, not on how well the network still classifies.
Accuracy beside them is that of committed sweeps which fine-tuned ResNet-20 with groups of that
shape: results/paper_gpw (16 x 16; its scheme vector is 1 x 16) and, where it was run,
results/engines.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.config.compose import compose
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.report.style import drawing, panels, render
from gpw_cli.report.targets import Series, draw_series, name_series
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
# where groups of a target's shape were fine-tuned: folder, scheme, target
TRAINED = {
    "vta": ("paper_gpw", "gpw", "vta"),
    "maeri": ("paper_gpw", "vector", "vta"),
    "nvdla_small": ("engines", "gpw", "nvdla_small"),
    "simba": ("engines", "gpw", "nvdla_small"),
    "nvdla_large": ("engines", "gpw", "nvdla_large"),
    "dnnweaver": ("engines", "gpw", "dnnweaver"),
}
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
    accuracy: float | None  # fp32, mean over seeds
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


@cache
def trained(target: str, sparsity: float) -> tuple[float | None, int | None]:
    """(mean accuracy over seeds, epochs of fine-tuning) of ResNet-20, if a sweep measured it."""
    folder, scheme, own = TRAINED[target]
    found = []
    for file in sorted(Path("results", folder, "points").glob("*.json")):
        point = json.loads(file.read_text())
        axes, config = point["axes"], point["config"]
        plain = (axes.get("scope", "layer"), axes.get("rounding")) == ("layer", None)
        here = (axes["scheme"], axes["sparsity"], config["target"]["name"])
        if plain and point["status"] == "done" and here == (scheme, sparsity, own):
            metrics = point["stages"]["finetune"]["metrics"]
            found.append((metrics["test_accuracy"], metrics["epochs"]))
    if not found:
        return None, None
    return round(sum(value for value, _ in found) / len(found), 2), found[0][1]


def rows(name: str, label: str) -> Iterator[Row]:
    """Dense, then every sparsity."""
    config = compose([*NETWORKS[name], *TARGETS[label]])
    npu = npu_of(config.target)
    dense: Timing | None = None
    for sparsity in SPARSITIES:
        graph, removed = (
            pruned(name, npu.tile, sparsity) if sparsity else (dense_integers(name), 0.0)
        )
        own = name == "resnet20" and label in TRAINED and sparsity > 0
        accuracy, epochs = trained(label, sparsity) if own else (None, None)
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
            accuracy=accuracy,
            finetune_epochs=epochs,
        )


def draw(found: Sequence[Row], folder: Path) -> None:
    """Times faster than dense, a panel a network, the bound dotted; accuracy of ResNet-20 below."""
    names = list(dict.fromkeys(row.network for row in found))
    shown = [[_series(found, name, target) for target in DRAWN] for name in names]
    measured = _accuracies(found)
    titles = [f"{name}: times faster than dense (bound dotted)" for name in names]
    if measured:
        shown.append(measured)
        titles.append("resnet20: accuracy with such groups, fp32 (%)")
    with drawing("engines"):
        figure, grid = panels(len(shown), 1, [2.5] * len(shown))
        for (axes,), title, series in zip(grid, titles, shown, strict=True):
            draw_series(axes, series)
            axes.set(title=title)
        for (axes,) in grid[: len(names)]:
            axes.set_ylim(0, max(max(one.y) for group in shown[: len(names)] for one in group) + 1)
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


def _accuracies(found: Sequence[Row]) -> list[Series]:
    result = []
    for target in DRAWN:
        own = [row for row in found if row.target == target and row.accuracy is not None]
        if own:
            x, y = [row.sparsity for row in own], [row.accuracy or 0.0 for row in own]
            result.append(Series(target, x, y))
    return result


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


def main(folder: Path) -> None:
    """Everything, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [row for name in NETWORKS for label in TARGETS for row in rows(name, label)]
    with (folder / "cycles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(found[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in found)
    draw(found, folder)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/engines"))
