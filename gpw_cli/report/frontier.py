"""Which networks of a sweep are worth their cycles: the Pareto front of accuracy on the NPU.

Seeds are averaged; a network is on the front when no other is at least as fast and more accurate.
``overlay.py`` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.summary import dense_of, pareto, scheme_rank
from gpw_cli.report.tables import Table
from gpw_cli.report.verdict import answer_sentence
from gpw_cli.report.words import basis, cut_note, listed, npu_name, percent

ONE_CLOCK = 1.0001  # milliseconds over cycles may differ so much by rounding


def networks(sweep: Sweep) -> pd.DataFrame:
    """One row per (scheme, variant, sparsity): mean ``cycles``, ``bound_cycles``, ``milliseconds``,
    ``dram_bytes`` and ``accuracy`` (%) over seeds, its ``sd``, the number ``n`` of seeds, and
    whether it is on the ``front`` of accuracy against cycles, or against milliseconds where clocks
    differ. Without those that are cut through.
    """
    rows = sweep.uncut().done.dropna(subset=["cycles", "npu_accuracy"])
    found = (
        rows.groupby(["scheme", "variant", "sparsity"], sort=False)
        .agg(
            cycles=("cycles", "mean"),
            bound_cycles=("bound_cycles", "mean"),
            milliseconds=("milliseconds", "mean"),
            dram_bytes=("dram_bytes", "mean"),
            accuracy=("npu_accuracy", "mean"),
            sd=("npu_accuracy", "std"),
            n=("npu_accuracy", "size"),
        )
        .reset_index()
    )
    cost = found["milliseconds" if clocks_differ(found) else "cycles"]
    pairs = list(zip(cost.tolist(), found["accuracy"].tolist(), strict=True))
    chosen = pareto(pairs)
    front = found.iloc[chosen].assign(front=True)
    rest = found.drop(found.index[chosen]).assign(front=False)
    return pd.concat([front, rest], ignore_index=True)


def clock_ratio(found: pd.DataFrame) -> float | None:
    """Milliseconds per cycle; None if they are not known or the networks' clocks differ."""
    ratios = (found["milliseconds"] / found["cycles"]).dropna()
    if ratios.empty or ratios.max() > ONE_CLOCK * ratios.min():
        return None
    return float(ratios.mean())


def clocks_differ(found: pd.DataFrame) -> bool:
    """Whether cycles cannot be compared, but milliseconds can."""
    return not found["milliseconds"].isna().any() and clock_ratio(found) is None


def network_name(row: Mapping[Any, Any]) -> str:
    """``gpw, scope global 50 %`` of a row of ``networks``; a dense network has no sparsity."""
    name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
    return name if row["scheme"] == "dense" else f"{name} {percent(round(row['sparsity'], 4))}"


def frontier_caption(sweep: Sweep) -> str:
    """Which schemes are on the front, and what speed costs along it."""
    found = networks(sweep)
    front = found[found["front"]]
    pruned = front[front["scheme"] != "dense"]
    counts = pruned["scheme"].value_counts()
    held = [f"{counts[name]} {name}" for name in sorted(counts.index, key=scheme_rank)]
    dense = len(front) - len(pruned)
    held += [f"{dense} dense" if dense > 1 else "the dense network"] if dense else []
    text = f"{len(front)} of {len(found)} networks are on the Pareto front ({listed(held)})"
    first = front.iloc[0]
    time = f"{first['cycles']:,.0f} cycles"
    if clocks_differ(found):
        text += ", by milliseconds, because the clocks differ"
        time = f"{first['milliseconds']:.3f} ms"
    fastest = f"{time} at {first['accuracy']:.2f} %"
    parts = [f"{text}; the fastest takes {fastest} ({first['scheme']})."]
    return " ".join([*parts, answer_sentence(sweep), cut_note(sweep), basis(sweep)]).replace(
        "  ", " "
    )


def beside_dense(found: pd.DataFrame) -> pd.DataFrame:
    """``found`` with ``faster`` (times) and ``loss`` (percentage points) against the variant's
    dense network.
    """
    dense = found[found["scheme"] == "dense"]
    if dense.empty:
        return found.assign(faster=math.nan, loss=math.nan)
    base = [dense_of(dense, variant).iloc[0] for variant in found["variant"]]
    return found.assign(
        faster=[row["cycles"] for row in base] / found["cycles"],
        loss=[row["accuracy"] for row in base] - found["accuracy"],
    )


def frontier_table(sweep: Sweep) -> Table:
    """The networks of the front, fastest first."""
    found = beside_dense(networks(sweep))
    rows = []
    for row in found[found["front"]].to_dict("records"):
        name = ", ".join(part for part in (row["scheme"], row["variant"]) if part)
        spread = "" if pd.isna(row["sd"]) else f" ± {row['sd']:.2f}"
        itself = row["scheme"] == "dense"
        faster = "" if itself or pd.isna(row["faster"]) else f"{row['faster']:.2f}"
        above = f"{100 * (row['cycles'] / row['bound_cycles'] - 1):.1f} %"
        time = "" if pd.isna(row["milliseconds"]) else f"{row['milliseconds']:.3f}"
        cells = [percent(row["sparsity"]), f"{row['accuracy']:.2f}{spread}"]
        rows.append([name, *cells, f"{row['cycles']:,.0f}", time, faster, above, str(row["n"])])
    accuracy = f"on {npu_name(sweep)} (%)"
    head = ["scheme", "sparsity", accuracy, "cycles", "ms", "times faster", "above the bound"]
    by = "milliseconds" if clocks_differ(found) else "cycles"
    note = (
        f"Networks that no other beats on both accuracy and {by}; means over seeds. Each is "
        "compared with the dense network of its own settings."
    )
    return Table("frontier", "The Pareto front", note, [*head, "seeds"], rows)
