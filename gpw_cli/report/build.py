"""Builds the report of a sweep's folder: CSV files, figures (PNG and SVG) and one HTML page.

    files = build_report(Path("results/paper_gpw"))     # every path that was written

Reads only ``sweep.json`` and ``points/*.json``, needs neither the store nor a network connection,
and writes the same bytes for the same results (for figures: with the same matplotlib).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gpw_cli.report.figures import FIGURES, compares_sparsities, draw_all
from gpw_cli.report.frontier import frontier_table
from gpw_cli.report.knobs import knobs_table
from gpw_cli.report.load import Sweep, load_sweep
from gpw_cli.report.page import build_page
from gpw_cli.report.passes import passes_table
from gpw_cli.report.quantization import bits_table
from gpw_cli.report.runs import provenance_table, runs_table
from gpw_cli.report.stages import stages_table
from gpw_cli.report.tables import (
    Table,
    accuracy_table,
    difference_table,
    failures_table,
    layers_table,
    per_layer_csv,
    results_csv,
)
from gpw_cli.report.verdict import answer_table
from gpw_cli.store.files import storage_errors, write_bytes

ReportFiles = list[Path]

# builder, columns that must have a value for the table to be made
TABLES = (
    (failures_table, ()),
    (answer_table, ("cycles", "npu_accuracy")),
    (accuracy_table, ("accuracy", "sparsity")),
    (difference_table, ("accuracy", "sparsity")),
    (frontier_table, ("cycles", "npu_accuracy")),
    (stages_table, ("quantized_accuracy", "sparsity")),
    (passes_table, ("counted_passes",)),
    (bits_table, ("fused_accuracy", "weight_bits")),
    (knobs_table, ("fused_accuracy", "weight_bits")),
    (layers_table, ("pruned_layers", "sparsity")),
    (runs_table, ("id",)),
    (provenance_table, ("id",)),
)


BY_SPARSITY = (accuracy_table, difference_table, stages_table, layers_table)


def build_report(folder: Path, warn: Callable[[str], None] = lambda message: None) -> ReportFiles:
    """Regenerate the whole report of a sweep in its folder; returns what was written, sorted.

    ``warn`` is called for each run that is left out because its file is damaged. Raises UsageError
    if the folder is not a sweep, StoreError if it cannot be written.
    """
    sweep = load_sweep(folder)
    for point, error in sweep.damaged.items():
        warn(f"{folder}: run {point}: {error}; the same `gpw sweep` runs it again")
    drawn = draw_all(sweep)
    contents: dict[str, bytes] = {"results.csv": results_csv(sweep).encode()}
    if sweep.has("pruned_layers"):
        contents["per_layer.csv"] = per_layer_csv(sweep).encode()
    for figure in drawn:
        contents[f"figures/{figure.name}.png"] = figure.png
        contents[f"figures/{figure.name}.svg"] = figure.svg.encode()
    data = [name for name in contents if name.endswith(".csv")]
    contents["report.html"] = build_page(sweep, drawn, _tables(sweep), data).encode()
    _write(folder, contents)
    return sorted(folder / name for name in contents)


def _tables(sweep: Sweep) -> list[Table]:
    left_out = () if compares_sparsities(sweep) else BY_SPARSITY
    made = [
        build(sweep)
        for build, needs in TABLES
        if build not in left_out and all(sweep.has(c) for c in needs)
    ]
    return [table for table in made if table.rows]


def _write(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write each file whole or not at all, and delete figures that no longer apply."""
    with storage_errors(folder):
        (folder / "figures").mkdir(exist_ok=True)
        for name, content in contents.items():
            write_bytes(folder / name, content)
        for name in (f"figures/{e.name}.{kind}" for e in FIGURES for kind in ("png", "svg")):
            if name not in contents:
                (folder / name).unlink(missing_ok=True)
