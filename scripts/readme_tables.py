"""Put the tables of README.md between their markers again, from results/ alone.

    python scripts/readme_tables.py

``<!--NAME-->`` ... ``<!--/NAME-->`` for every name in ``TABLES``; a sweep that is not there, or has
no finished point of a kind, leaves its table as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.report.knobs import knobs_table
from gpw_cli.report.load import Sweep, load_sweep
from gpw_cli.report.quantization import settings
from gpw_cli.report.summary import At, Curve, curves, dense_cycles, differences, main_variant

ROOT = Path(__file__).resolve().parent.parent


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def shown(at: At | None, sign: str = "") -> str:
    if at is None:
        return ""
    spread = "" if at.sd is None else f" ± {at.sd:.2f}"
    return f"{at.mean:{sign}.2f}{spread}"


def by_sparsity(found: list[Curve], scheme: str) -> dict[float, At]:
    return {at.x: at for curve in found if curve.scheme == scheme for at in curve.points}


def accuracy(sweep: Sweep) -> str:
    """block, gpw and their difference at every sparsity."""
    only, _ = main_variant(sweep)
    found = curves(only.done, "accuracy")
    block, gpw = by_sparsity(found, "block"), by_sparsity(found, "gpw")
    gaps = {at.x: at for gap in differences(only.done, "accuracy") for at in gap.points}
    rows = [
        [f"{100 * x:.0f} %", shown(block.get(x)), shown(gpw.get(x)), shown(at, "+"), str(at.n)]
        for x, at in sorted(gaps.items())
    ]
    head = ["sparsity", "block (%)", "gpw (%)", "gpw minus block (points)", "seeds"]
    return markdown(head, rows) if rows else ""


def variants(sweep: Sweep) -> str:
    """The difference gpw minus block for every scope and rounding, a column a sparsity."""
    gaps = differences(sweep.done, "accuracy")
    sparsities = sorted({at.x for gap in gaps for at in gap.points})
    rows = []
    for gap in gaps:
        found = {at.x: at for at in gap.points}
        cells = [shown(found.get(x), "+") for x in sparsities]
        counts = {at.n for at in gap.points}
        seeds = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        rows.append([gap.variant, *cells, seeds])
    head = ["gpw minus block (points)", *(f"{100 * x:.0f} %" for x in sparsities), "seeds"]
    return markdown(head, rows) if rows else ""


def on_vta(sweep: Sweep) -> tuple[pd.DataFrame, float | None]:
    """The points that ran on VTA, of the main variant, and the dense network's cycles."""
    only, _ = main_variant(sweep)
    return only.done.dropna(subset=["cycles", "npu_accuracy"]), dense_cycles(only)


def vta(sweep: Sweep) -> str:
    """fp32, the integers on VTA, cycles, speed-up, distance from the bound."""
    rows, base = on_vta(sweep)
    if base is None:
        return ""
    rows = rows.assign(fp32=rows["accuracy"].fillna(rows["dense_accuracy"]))
    cells = []
    for (sparsity, scheme), own in rows.groupby(["sparsity", "scheme"]):
        if scheme not in ("dense", "block", "gpw"):
            continue
        name = "dense" if scheme == "dense" else f"{scheme} {100 * float(str(sparsity)):.0f} %"
        mean = own[["fp32", "npu_accuracy", "cycles", "bound_cycles"]].mean()
        cells.append(
            [
                name,
                f"{mean['fp32']:.2f}",
                f"{mean['npu_accuracy']:.2f}",
                f"{mean['cycles']:,.0f}",
                f"{base / mean['cycles']:.2f}",
                f"{100 * (mean['cycles'] / mean['bound_cycles'] - 1):.1f} %",
                str(len(own)),
            ]
        )
    head = ["network", "fp32 (%)", "on VTA (%)", "cycles", "times faster", "above the bound"]
    return markdown([*head, "seeds"], cells)


def schemes(sweep: Sweep) -> str:
    """Every scheme: accuracy on VTA and times faster, a column a sparsity."""
    rows, base = on_vta(sweep)
    pruned = rows[rows["scheme"] != "dense"]
    if base is None or pruned.empty:
        return ""
    sparsities = sorted(set(pruned["sparsity"]))
    table = []
    for scheme in Scheme:
        own = pruned[pruned["scheme"] == scheme].groupby("sparsity")
        means = own[["npu_accuracy", "cycles"]].mean()
        cells = {
            x: f"{at['npu_accuracy']:.2f} ({base / at['cycles']:.2f}x)"
            for x, at in means.iterrows()
        }
        if cells:
            seeds = str(int(own.size().max()))
            table.append([f"`{scheme.value}`", *(cells.get(x, "") for x in sparsities), seeds])
    head = ["on VTA (%), times faster", *(f"{100 * x:.0f} %" for x in sparsities), "seeds"]
    return markdown(head, table)


def quantizers(*sweeps: Sweep) -> str:
    """Every network and quantizer: unfused at the most bits, then fused at each number of bits."""
    found = pd.concat([settings(sweep) for sweep in sweeps])
    bits = sorted(set(found["bits"]), reverse=True)
    rows = []
    groups = found.groupby(["model", "point", "fp32", "quantizer"], sort=False)
    for (model, point, fp32, quantizer), own in groups:
        fused = own.groupby("bits")["fused"].mean()
        unfused = own[own["bits"] == bits[0]]["unfused"].mean()
        cells = [f"{fused[b]:.2f}" if b in fused.index else "" for b in bits]
        network = f"{model}, {point}".strip(", ")
        rows.append([network, f"{fp32:.2f}", f"`{quantizer}`", f"{unfused:.2f}", *cells])
    names = [f"{b} bits" for b in bits]
    head = ["network", "fp32 (%)", "quantizer", f"{names[0]}, unfused", *names]
    return markdown(head, rows) if rows else ""


def knobs(sweep: Sweep) -> str:
    """One knob at a time."""
    table = knobs_table(sweep)
    return markdown(table.head, table.rows) if table.rows else ""


TABLES: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "accuracy": (accuracy, ("paper_gpw",)),
    "variants": (variants, ("paper_gpw",)),
    "vta": (vta, ("paper_gpw",)),
    "schemes": (schemes, ("paper_gpw",)),
    "quantizers": (quantizers, ("paper_fusion", "paper_fusion_resnet56")),
    "knobs": (knobs, ("quantizer_knobs",)),
}


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, (build, names) in TABLES.items():
        try:
            table = build(*(load_sweep(ROOT / "results" / sweep) for sweep in names))
        except UsageError as error:
            print(f"{name}: left alone: {error}")
            continue
        if not table:
            print(f"{name}: left alone: no finished point of its kind")
            continue
        block = f"<!--{name}-->\n{table}\n<!--/{name}-->"
        old = re.compile(f"<!--{name}-->.*?<!--/{name}-->", re.S)
        text = old.sub(block.replace("\\", r"\\"), text)
    readme.write_text(text)


if __name__ == "__main__":
    main()
