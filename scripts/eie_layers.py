"""EIE on random layers: every table and figure of results/eie that needs no trained network.

    python scripts/eie_layers.py [FOLDER]        # results/eie; two minutes on one core

Prints the layer 4096 -> 1000 with its bound and load balance, and the nine layers of EIE's
benchmark beside the published times. Writes a CSV file a table and four figures.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gpw_cli.config.target import load_target
from gpw_cli.report.looks import light
from gpw_cli.report.style import drawing, panels, render
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.layers import (
    BENCHMARK,
    Bench,
    entries_of,
    random_layer,
    time_random,
)
from gpw_cli.targets.eie.matrix import storage_of

SAMPLE = Bench("4096 -> 1000", 4096, 1000, 0.257, 0.429, 0, 0, False)
POWERS = [2**power for power in range(9)]  # 1 to 256
SEEDS = (0, 1, 2)  # of the layer 4096 -> 1000; everything else has seed 0
LINES = {  # layer -> colour and style of its line
    "Alex-6": ("pink", "-"),
    "Alex-7": ("blue", "-"),
    "Alex-8": ("blue", "--"),
    "VGG-6": ("pink", "--"),
    "VGG-7": ("orange", "-"),
    "VGG-8": ("orange", "--"),
    "NT-We": ("green", "-"),
    "NT-Wd": ("green", "--"),
    "NT-LSTM": ("ink", "-"),
}
Row = dict[str, Any]


def sample_rows() -> Iterator[Row]:
    """The issue's layer, three seeds."""
    config = load_target("eie", EieConfig)
    for seed in SEEDS:
        found = time_random(random_layer(SAMPLE, seed), config)
        yield {
            "seed": seed,
            "cycles": found.cycles,
            "theoretical": found.theoretical(config.pes),
            "least": found.least,
            "balance": found.balance(config.pes),
            "broadcasts": found.broadcasts,
            "held_back": found.full,
            "lines": found.lines,
        }


def benchmark_rows() -> Iterator[Row]:
    config = load_target("eie", EieConfig)
    for bench in BENCHMARK:
        found = time_random(random_layer(bench, 0), config)
        weights = (found.entries - found.padding) / config.pes
        yield {
            "layer": bench.name,
            "inputs": bench.inputs,
            "outputs": bench.outputs,
            "weight_density": bench.weights,
            "activation_density": bench.activations,
            "densities_recollected": bench.recalled,
            "weights_only_us": weights / config.clock_mhz,
            "theoretical_us": found.theoretical(config.pes) / config.clock_mhz,
            "actual_us": found.cycles / config.clock_mhz,
            "balance": found.balance(config.pes),
            "padding": found.padding / found.entries,
            "published_theoretical_us": bench.theoretical_us,
            "published_actual_us": bench.actual_us,
        }


def sweep_rows(names: Collection[str]) -> Iterator[tuple[str, Row]]:
    """(table, row): queue depth and index width on 64 PEs, and the number of PEs."""
    for bench in (bench for bench in BENCHMARK if bench.name in names):
        layer = random_layer(bench, 0)
        base = load_target("eie", EieConfig)
        blocks = entries_of(layer, base)
        for depth in POWERS:
            config = replace(base, queue_depth=depth)
            found = time_random(layer, config, blocks)
            yield "queue", row_of(bench, found, config) | {"queue_depth": depth}
        for bits in range(2, 9):
            config = replace(base, index_bits=bits)
            own = entries_of(layer, config)
            size = storage_of(own, config).entry_bits / 8 / 1024
            found = row_of(bench, time_random(layer, config, own), config)
            yield "index", found | {"index_bits": bits, "entries_kib": size}
        for pes in POWERS:
            config = replace(base, pes=pes, registers=base.vector // pes)
            found = row_of(bench, time_random(layer, config), config)
            yield "pes", found | {"pes": pes}


def row_of(bench: Bench, found: Any, config: EieConfig) -> Row:
    return {
        "layer": bench.name,
        "cycles": found.cycles,
        "entries": found.entries,
        "padding": found.padding,
        "balance": round(found.balance(config.pes), 6),
    }


def draw_lines(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    """Load balance against queue depth; padding and cycles against PEs; size and cycles: index."""
    plots = {
        "balance_vs_queue": [("queue", "queue_depth", "balance", "load balance")],
        "padding_and_cycles_vs_pes": [
            ("pes", "pes", "padding_share", "padding, share of entries"),
            ("pes", "pes", "speedup", "speed-up over one PE"),
        ],
        "size_and_cycles_vs_index": [
            ("index", "index_bits", "entries_share", "size of entries, 4 bits = 1"),
            ("index", "index_bits", "cycles_share", "cycles, 4 bits = 1"),
        ],
    }
    names = {"queue_depth": "queue depth", "pes": "PEs", "index_bits": "bits of a zero run"}
    for name, parts in plots.items():
        with drawing(name):
            figure, axes = panels(len(parts), 1, [3.0] * len(parts))
            for (table, x, y, label), (pane,) in zip(parts, axes, strict=True):
                data = tables[table]
                for layer, (colour, style) in LINES.items():
                    own = data[data["layer"] == layer]
                    pane.plot(own[x], own[y], style, color=light(colour), marker=".", label=layer)
                if x != "index_bits":
                    pane.set_xscale("log", base=2)
                    pane.set_xticks(POWERS, [str(power) for power in POWERS])
                if y == "speedup":
                    pane.set_yscale("log", base=2)
                    pane.plot(POWERS, POWERS, color=light("muted"), linestyle=":", linewidth=1)
                pane.set_xlabel(names[x])
                pane.set_ylabel(label)
            axes[-1][0].legend(fontsize=7.5, ncols=3, frameon=False)
            save(figure, folder / name)


def draw_benchmark(data: pd.DataFrame, folder: Path) -> None:
    """Published and own times of the nine layers."""
    with drawing("benchmark"):
        figure, ((pane,),) = panels(1, 1, [3.2])
        x = np.arange(len(data))
        parts = [
            ("published_theoretical_us", "published, theoretical (recollected)", "muted", 0.45),
            ("published_actual_us", "published, actual (recollected)", "muted", 1.0),
            ("theoretical_us", "here, theoretical", "blue", 0.45),
            ("actual_us", "here, actual", "blue", 1.0),
        ]
        for index, (column, label, colour, alpha) in enumerate(parts):
            place = x + (index - 1.5) * 0.2
            pane.bar(place, data[column], 0.19, color=light(colour), alpha=alpha, label=label)
        pane.set_xticks(x, data["layer"], rotation=30)
        pane.set_ylabel("µs at 800 MHz, 64 PEs")
        pane.legend(fontsize=7.5, frameon=False)
        save(figure, folder / "benchmark")


def save(figure: Any, path: Path) -> None:
    png, svg = render(figure)
    path.with_suffix(".png").write_bytes(png)
    path.with_suffix(".svg").write_text(svg, encoding="utf-8")


def main(folder: Path) -> None:
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    sample = pd.DataFrame(sample_rows())
    print("4096 -> 1000, 25.7 % weights, 42.9 % activations, 64 PEs, queue depth 8")
    print(sample.round(4).to_string(index=False), "\n", flush=True)
    benchmark = pd.DataFrame(benchmark_rows())
    shown = benchmark.drop(columns=["inputs", "outputs", "densities_recollected"])
    print(shown.round(3).to_string(index=False), flush=True)
    benchmark.round(6).to_csv(folder / "benchmark.csv", index=False)
    draw_benchmark(benchmark, figures)
    rows: dict[str, list[Row]] = {"queue": [], "index": [], "pes": []}
    for table, row in sweep_rows(LINES):
        rows[table].append(row)
    tables = shares({name: pd.DataFrame(found) for name, found in rows.items()})
    for name, table in {**tables, "sample": sample}.items():
        table.round(6).to_csv(folder / f"{name}.csv", index=False)
    draw_lines(tables, figures)


def shares(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """With what the figures show: shares of entries, and what is relative to one PE or 4 bits."""
    pes, index = tables["pes"], tables["index"]
    pes["padding_share"] = (pes["padding"] / pes["entries"]).round(6)
    one = pes[pes["pes"] == 1].set_index("layer")["cycles"]
    pes["speedup"] = (pes["layer"].map(one) / pes["cycles"]).round(4)
    four = index[index["index_bits"] == 4].set_index("layer")
    for own, share in (("entries_kib", "entries_share"), ("cycles", "cycles_share")):
        index[share] = (index[own] / index["layer"].map(four[own])).round(4)
    return tables


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/eie"))
