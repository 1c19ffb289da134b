"""Update the tables of README.md and docs/ between their markers from results/.

    python scripts/tables.py

The markers are ``<!--NAME-->`` ... ``<!--/NAME-->`` for each name in ``TABLES``. The table of a
missing sweep, or of one without finished runs of its kind, does not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Scheme
from gpw_cli.report.answer import Answer, answers
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
    """block, gpw and their difference at each sparsity."""
    only, _ = main_variant(sweep)
    found = curves(only.done, "accuracy")
    block, gpw = by_sparsity(found, "block"), by_sparsity(found, "gpw")
    gaps = {at.x: at for gap in differences(only.done, "accuracy") for at in gap.points}
    rows = [
        [f"{100 * x:.0f} %", shown(block.get(x)), shown(gpw.get(x)), shown(at, "+"), str(at.n)]
        for x, at in sorted(gaps.items())
    ]
    head = ["sparsity", "block (%)", "gpw (%)", "gpw minus block (percentage points)", "seeds"]
    return markdown(head, rows) if rows else ""


def variants(sweep: Sweep) -> str:
    """The difference gpw minus block by scope and rounding, a column per sparsity."""
    gaps = differences(sweep.done, "accuracy")
    sparsities = sorted({at.x for gap in gaps for at in gap.points})
    rows = []
    for gap in gaps:
        found = {at.x: at for at in gap.points}
        cells = [shown(found.get(x), "+") for x in sparsities]
        counts = {at.n for at in gap.points}
        seeds = str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        rows.append([gap.variant, *cells, seeds])
    head = [
        "gpw minus block (percentage points)",
        *(f"{100 * x:.0f} %" for x in sparsities),
        "seeds",
    ]
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
    """Accuracy on VTA and speed-up of each scheme, a column per sparsity."""
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
    """Each network and quantizer: unfused at the most bits, then fused at each bit width."""
    found = pd.concat([settings(sweep) for sweep in sweeps])
    bits = sorted(set(found["bits"]), reverse=True)
    rows = []
    groups = found.groupby(["model", "point", "fp32", "quantizer"], sort=False)
    for (model, point, fp32, quantizer), own in groups:
        fused = own.groupby("bits")["fused"].mean()
        unfused = own[own["bits"] == bits[0]]["unfused"]
        cells = [f"{fused[b]:.2f}" if b in fused.index else "" for b in bits]
        network = f"{model}, {point}".strip(", ")
        name, comma, how = quantizer.partition(", ")
        plain = f"{unfused.mean():.2f}" if len(unfused) else ""
        rows.append([network, f"{fp32:.2f}", f"`{name}`{comma}{how}", plain, *cells])
    names = [f"{b} bits" for b in bits]
    head = ["network", "fp32 (%)", "quantizer", f"{names[0]}, unfused", *names]
    return markdown(head, rows) if rows else ""


def knobs(sweep: Sweep) -> str:
    """The effect of each quantizer setting."""
    table = knobs_table(sweep)
    return markdown(table.head, table.rows) if table.rows else ""


def frontier(sweep: Sweep) -> str:
    """Budgets and dense networks, by cycles."""
    cells = []
    for row in sorted(answers(sweep), key=lambda row: row.cycles or 0.0):
        if row.cycles is None or row.milliseconds is None:
            continue
        spread = "" if row.spread is None else f" ± {row.spread:.2f}"
        cells.append(
            [
                _network(sweep, row),
                f"{row.accuracy:.2f}{spread}",
                f"{row.cycles:,.0f}",
                f"{row.milliseconds:.3f}",
                "" if row.faster is None or not row.loss else f"{row.faster:.2f}",
                str(row.seeds),
            ]
        )
    head = ["network", "on VTA (%)", "cycles", "ms at 100 MHz", "times faster than dense", "seeds"]
    return markdown(head, cells) if cells else ""


def _network(sweep: Sweep, row: Answer) -> str:
    config = sweep.records[row.ids[0]]["config"]
    if budget := config["pruning"]["budget"]:
        return f"at most {budget:,} cycles"
    widths = config["model"]["widths"]
    return f"{config['model']['name']}{f' {widths}' if widths else ''}, dense"


def headline(sweep: Sweep) -> str:
    """The fastest network within 2.5 percentage points of the dense one, as a sentence."""
    rows = answers(sweep)
    dense = next((row for row in rows if _network(sweep, row) == "resnet20, dense"), None)
    near = [row for row in rows if row.faster and row.loss is not None and row.loss >= -2.5]
    if dense is None or not near:
        return ""
    best = min(near, key=lambda row: row.cycles or 0.0)
    seeds = "one seed" if best.seeds == 1 else f"mean of {best.seeds} seeds"
    return (
        f"**ResNet-20 on CIFAR-10 runs {best.faster:.1f} times faster on VTA, in "
        f"{best.cycles:,.0f} cycles instead of {dense.cycles:,.0f}, at {best.accuracy:.2f} % "
        f"({seeds}) where the dense network has {dense.accuracy:.2f} % (one seed)** (int8, n = "
        f"{best.images:,}): short trials on held-out training images say which residual branches "
        "stay, a knapsack over the compiler's own costs which tiles of them, and what became dead "
        "is taken out."
    )


TABLES: dict[str, tuple[Callable[..., str], tuple[str, ...]]] = {
    "headline": (headline, ("frontier",)),
    "frontier": (frontier, ("frontier",)),
    "accuracy": (accuracy, ("paper_gpw",)),
    "variants": (variants, ("paper_gpw",)),
    "vta": (vta, ("paper_gpw",)),
    "schemes": (schemes, ("paper_gpw",)),
    "quantizers": (quantizers, ("paper_fusion", "paper001", "quantized", "paper_fusion_resnet56")),
    "knobs": (knobs, ("quantizer_knobs",)),
}


def built() -> dict[str, str]:
    """Name -> table, for the results in results/."""
    found = {}
    for name, (build, names) in TABLES.items():
        try:
            text = build(*(load_sweep(ROOT / "results" / sweep) for sweep in names))
        except UsageError as error:
            print(f"{name}: left alone: {error}")
            continue
        if text:
            found[name] = text
        else:
            print(f"{name}: left alone: no finished run of its kind")
    return found


def main() -> None:
    texts = built()
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        content = file.read_text()
        for name, text in texts.items():
            block = f"<!--{name}-->\n{text}\n<!--/{name}-->".replace("\\", r"\\")
            content = re.sub(f"<!--{name}-->.*?<!--/{name}-->", block, content, flags=re.S)
        file.write_text(content)


if __name__ == "__main__":
    main()
