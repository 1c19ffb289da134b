"""One row per run: what it reached, compared with dense, and where each number was made."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gpw_cli.report.answer import dense_beside, measured_accuracy
from gpw_cli.report.frame import PIPELINE, dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.summary import in_order
from gpw_cli.report.tables import Table
from gpw_cli.report.words import npu_name, percent

# column of the frame, its title, how a value is written; empty columns are left out
_FORMATS = (
    ("sparsity", "sparsity", "percent"),
    ("sparsity_prunable", "reached", "percent"),
    ("accuracy", "fine-tuned (%)", ".2f"),
    ("quantized_accuracy", "quantized (%)", ".2f"),
    ("fused_accuracy", "fused (%)", ".2f"),
    ("npu_accuracy", "", ".2f"),
    ("difference", "minus dense", "+.2f"),
    ("cycles", "cycles", ",.0f"),
    ("milliseconds", "ms", ".3f"),
    ("faster", "times faster", ".2f"),
    ("dram_bytes", "DRAM bytes", ",.0f"),
    ("n_test", "test images", ",.0f"),
    ("seed", "seed", ".0f"),
)
_TEXTS = (
    ("pretraining", "pre-training"),
    ("finetuning", "fine-tuning"),
    ("finetune_commit", "fine-tune commit"),
    ("simulate_commit", "simulate commit"),
)


def runs_table(sweep: Sweep) -> Table:
    """Accuracy by stage, difference from dense, cost and commits of every finished run."""
    frame = _beside_dense(in_order(sweep.done))
    budgets = [dig(sweep.records[run], "config.pruning.scope") == "cycles" for run in frame["id"]]
    frame = frame.assign(sparsity=frame["sparsity"].mask(pd.Series(budgets, frame.index)))
    numbers = [entry for entry in _FORMATS if frame[entry[0]].notna().any()]
    texts = [entry for entry in _TEXTS if (frame[entry[0]].notna() & frame[entry[0]].ne("")).any()]
    head = [title or f"on {npu_name(sweep)} (%)" for _, title, _ in numbers]
    rows = [
        [
            str(run["id"]),
            *(_number(run[name], form) for name, _, form in numbers),
            *(_known(run[name]) for name, _ in texts),
        ]
        for run in frame.to_dict("records")
    ]
    note = (
        "Minus dense: the last measured accuracy in percentage points against the dense network "
        "(its fp32 weights if that was not run). Sparsity of the prunable weights, requested (not "
        "under a budget) and reached."
    )
    return Table(
        "runs", "Runs", note, ["run", *head, *(t for _, t in texts)], rows, right=len(texts)
    )


def provenance_table(sweep: Sweep) -> Table:
    """The commit and the key of every stage of every finished run."""
    stages = [stage for stage in PIPELINE if sweep.has(f"{stage}_key")]
    rows = [
        [str(run["id"]), *(_made(run, stage) for stage in stages)]
        for run in in_order(sweep.done).to_dict("records")
    ]
    note = (
        "For each stage the commit that ran it and its key, shortened; results.csv has the keys in "
        "full. A checkout with local changes ends in -dirty."
    )
    title = "Where each number was made"
    return Table("provenance", title, note, ["run", *stages], rows, left=1 + len(stages))


def _beside_dense(done: pd.DataFrame) -> pd.DataFrame:
    """``done`` with ``difference`` (percentage points), ``faster`` (times) and how it trained."""
    found = measured_accuracy(done)
    beside = [dense_beside(row, done) for _, row in done.iterrows()]
    dense = pd.Series([accuracy for accuracy, _ in beside], done.index, dtype=float)
    cycles = pd.Series([cycles for _, cycles in beside], done.index, dtype=float)
    runs = done.to_dict("records")
    return done.assign(
        difference=found - dense,
        faster=(cycles / done["cycles"]).mask(done["cut"].eq(True) | done["scheme"].eq("dense")),
        pretraining=[_trained(run, "pretrain") for run in runs],
        finetuning=[_trained(run, "finetune") for run in runs],
    )


def _number(value: float, form: str) -> str:
    if pd.isna(value):
        return ""
    return percent(round(value, 4)) if form == "percent" else format(value, form)


def _known(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _made(run: dict[Any, Any], stage: str) -> str:
    commit, key = _known(run[f"{stage}_commit"]), _known(run[f"{stage}_key"])
    return " ".join(part for part in (commit, key[:12]) if part)


def _trained(run: dict[Any, Any], stage: str) -> str:
    source = run["pretrain_source"] if stage == "pretrain" else None
    recipe, epochs = run[f"{stage}_recipe"], run[f"{stage}_epochs"]
    parts = [
        str(source) if isinstance(source, str) and source != "scratch" else "",
        str(recipe) if isinstance(recipe, str) else "",
        f"{epochs:.0f} epochs" if pd.notna(epochs) else "",
    ]
    return ", ".join(part for part in parts if part)
