"""One row per run: which number of a run's record becomes which column.

``COLUMNS`` is the mapping; ``unit_columns`` adds what only a target knows. A later stage adds a
line, and the column appears in results.csv as soon as one run has a value for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

PIPELINE = ("pretrain", "prune", "finetune", "quantize", "fuse", "simulate")
TRAINING = PIPELINE[:3]  # a later stage adds its columns once a run has it
NAMED_AXES = ("scheme", "sparsity", "seed")  # every other varied axis goes into ``variant``


@dataclass(frozen=True)
class Column:
    """``path``: keys into the record, separated by dots; with alternatives separated by bars, the
    first that has a value. ``digits``: decimals in the CSV.

    ``optional`` columns are left out of the CSV as long as they are empty.
    """

    name: str
    path: str
    digits: int | None = None  # None: text
    optional: bool = False


def _metric(name: str, stage: str, metric: str, digits: int, optional: bool = False) -> Column:
    return Column(name, f"stages.{stage}.metrics.{metric}", digits, optional)


COLUMNS = (
    Column("model", "config.model.name"),
    Column("data", "config.data.name"),
    Column("scope", "axes.scope"),
    Column("criterion", "config.pruning.criterion"),
    Column("n_test", "n_test", 0),
    _metric("dense_accuracy", "pretrain", "test_accuracy", 4),
    _metric("pruned_accuracy", "prune", "test_accuracy", 4),
    _metric("accuracy", "finetune", "test_accuracy", 4),
    _metric("quantized_accuracy", "quantize", "test_accuracy", 4, optional=True),
    _metric("fused_accuracy", "fuse", "test_accuracy", 4, optional=True),
    _metric("npu_accuracy", "simulate", "test_accuracy", 4, optional=True),
    Column("accuracy_of", "stages.simulate.metrics.accuracy_of", optional=True),
    Column("target", "config.target.name", optional=True),
    Column("hypothetical", "stages.simulate.metrics.hypothetical", optional=True),
    Column("quantizer", "config.quantizer.name", optional=True),
    _metric("weight_bits", "quantize", "weight_bits", 0, optional=True),
    _metric("act_bits", "quantize", "act_bits", 0, optional=True),
    _metric("cycles", "simulate", "cycles", 0, optional=True),
    _metric("bound_cycles", "simulate", "bound_cycles", 0, optional=True),
    _metric("milliseconds", "simulate", "milliseconds", 6, optional=True),
    _metric("dense_cycles", "simulate", "dense_cycles", 0, optional=True),
    _metric("dram_bytes", "simulate", "dram_bytes", 0, optional=True),
    _metric("groups_total", "prune", "groups_total", 0),
    _metric("groups_removed", "prune", "groups_removed", 0),
    _metric("sparsity_prunable", "prune", "sparsity_prunable", 6),
    _metric("sparsity_network", "prune", "sparsity_network", 6),
    Column("pretrain_source", "stages.pretrain.metrics.source"),
    Column("pretrain_recipe", "stages.pretrain.metrics.recipe"),
    _metric("pretrain_epochs", "pretrain", "epochs", 0),
    Column("finetune_recipe", "stages.finetune.metrics.recipe"),
    _metric("finetune_epochs", "finetune", "epochs", 0),
    Column("finetune_precision", "stages.finetune.metrics.precision", optional=True),
    *(
        Column(f"{stage}_{what}", f"stages.{stage}.{what}", optional=stage not in TRAINING)
        for what in ("commit", "key")
        for stage in PIPELINE
    ),
)
IDENTITY = (
    Column("id", "id"),
    Column("status", "status"),
    Column("scheme", ""),
    Column("variant", "", optional=True),
    Column("sparsity", ""),
    Column("seed", "", 0),
)
BUSY = "_utilisation"  # ends the metric of a unit: its name is the target's own
# counted in a run, shown for one image
PER_RUN = ("cycles", "bound_cycles", "milliseconds", "dense_cycles", "dram_bytes")
# What figures need beyond the CSV: how many epochs, layers, passes and drawable masks there are.
COUNTS = {
    "pretrain_history": ("pretrain", "history"),
    "finetune_history": ("finetune", "history"),
    "pruned_layers": ("prune", "layers"),
    "timed_layers": ("simulate", "layers"),
    "counted_passes": ("simulate", "metrics.cycles_by_pass"),
    "quantized_layers": ("fuse", "layers"),
}


def unit_columns(records: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """One column per unit of the targets in ``records``: how busy it was (``gemm_utilisation``)."""
    metrics = (dig(record, "stages.simulate.metrics") or {} for record in records)
    names = dict.fromkeys(name for found in metrics for name in found if name.endswith(BUSY))
    return tuple(_metric(name, "simulate", name, 6, optional=True) for name in names)


def build_frame(records: Sequence[Mapping[str, Any]], fixed: Mapping[str, str]) -> pd.DataFrame:
    """One row per record, in the records' order. ``fixed``: what the whole sweep shares, a fallback
    for runs that have no record yet.
    """
    varied = _varied_axes(records)
    columns = (*COLUMNS, *unit_columns(records))
    rows = [_row(record, fixed, varied, columns) for record in records]
    names = [c.name for c in (*IDENTITY, *columns)] + ["error", *COUNTS, "drawable_masks", "cut"]
    frame = pd.DataFrame(rows, columns=names)
    numeric = [c.name for c in columns if c.digits is not None] + ["sparsity", "seed", *COUNTS]
    for name in numeric:
        frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
    return frame


def _row(
    record: Mapping[str, Any],
    fixed: Mapping[str, str],
    varied: Sequence[str],
    columns: Sequence[Column],
) -> dict[str, Any]:
    axes = {**_short(fixed), **_short(record.get("axes") or {})}
    layers = dig(record, "stages.prune.layers") or []
    values = {column.name: dig(record, column.path) for column in columns}
    images = dig(record, "stages.simulate.metrics.pictures_per_run") or 1
    values |= {name: values[name] / images for name in PER_RUN if values[name] is not None}
    return {
        "id": record["id"],
        "status": record["status"],
        "error": record.get("error"),
        "scheme": str(axes.get("scheme") or axes.get("pruning") or "unknown"),
        "sparsity": _sparsity(record, axes),
        "seed": axes.get("seed", 0),
        "variant": ", ".join(_setting(name, axes[name]) for name in _own_axes(axes, varied)),
        **values,
        **{name: len(dig(record, f"stages.{s}.{k}") or []) for name, (s, k) in COUNTS.items()},
        "drawable_masks": sum(layer.get("kept") is not None for layer in layers),
        # no weight is multiplied: pruning has cut every path from the image to the logits
        "cut": dig(record, "stages.simulate.metrics.gemm_weights_uops") == 0,
    }


def _own_axes(axes: Mapping[str, Any], varied: Sequence[str]) -> list[str]:
    """The varied axes that a run has, without those that mean nothing to a dense network."""
    dense = axes.get("scheme") == "dense"
    own = [name for name in varied if name in axes and not _is_long(axes[name])]
    return [name for name in own if not (dense and name == "scope")]


def _setting(name: str, value: Any) -> str:
    short = name.removeprefix("pruning.").removeprefix("model.")
    return str(value) if name == "model" else f"{short} {value}"


def _is_long(value: Any) -> bool:
    """Whether a value is a mapping or a list of names, too long to be part of a name."""
    return re.match(r"\{|\[(?![\d., ]*\]$)", str(value)) is not None


def _sparsity(record: Mapping[str, Any], axes: Mapping[str, Any]) -> Any:
    """The requested sparsity; the one reached under a budget of cycles."""
    if dig(record, "config.pruning.scope") == "cycles" and axes.get("scheme") != "dense":
        return dig(record, "stages.prune.metrics.sparsity_prunable")
    return axes.get("sparsity")


def dig(record: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted ``path`` (``a.b|c.d``: at the first that has one), None if it is
    absent.
    """
    first, _, others = path.partition("|")
    value: Any = record
    for key in first.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return dig(record, others) if value is None and others else value


def _short(axes: Mapping[str, Any]) -> dict[str, Any]:
    """``pruning.sparsity`` and ``sparsity`` are the same axis; other names stay as they are."""
    known = (*NAMED_AXES, "scope")
    tails = {key: key.rpartition(".")[2] for key in axes}
    return {(tail if tail in known else key): axes[key] for key, tail in tails.items()}


def _varied_axes(records: Sequence[Mapping[str, Any]]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for record in records:
        for key, value in _short(record.get("axes") or {}).items():
            if not _is_long(value):
                seen.setdefault(key, set()).add(str(value))
    # a budget stands as the sparsity that it reaches
    skip = (*NAMED_AXES, "pruning", "pruning.budget", "pruning.budget_ms")
    return [key for key, found in seen.items() if len(found) > 1 and key not in skip]
