"""Checks the types of a run's record: an old one has no checksum and may have been edited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gpw_cli.report.frame import COLUMNS, dig, unit_columns
from gpw_cli.store.records import BadRecord

# In the rows of layers and epochs, beside names: numbers, where they are present.
ROW_NUMBERS = (
    "cycles",
    "gemm",
    "alu",
    "load",
    "store",
    "stall",
    "groups",
    "removed",
    "sparsity",
    "epoch",
    "loss",
    "train_accuracy",
    "test_accuracy",
    "lr",
    "min",
    "max",
    "scale",
    "exponent",
    "clipped",
    "zero_weights",
)


def check_values(record: Mapping[str, Any]) -> None:
    """Raises BadRecord if a value is not of the type that the columns and figures need."""
    for column in (*COLUMNS, *unit_columns([record])):
        value = dig(record, column.path)
        if column.digits is not None and not _is_number(value):
            raise BadRecord(f"{column.path} is no number")
    passes = dig(record, "stages.simulate.metrics.cycles_by_pass") or {}
    if not isinstance(passes, Mapping) or not all(map(_is_number, passes.values())):
        raise BadRecord("stages.simulate.metrics.cycles_by_pass are no numbers")
    axes = record.get("axes") or {}
    try:
        if not math.isfinite(float(axes.get("sparsity") or 0) + float(axes.get("seed") or 0)):
            raise ValueError
    except (TypeError, ValueError):
        raise BadRecord("axes.sparsity or axes.seed is no number") from None
    for name, stage in (record.get("stages") or {}).items():
        for row in [*(stage.get("layers") or []), *(stage.get("history") or [])]:
            wrong = next((k for k in ROW_NUMBERS if not _is_number(row.get(k))), None)
            if wrong is not None or not isinstance(row.get("name", ""), str):
                raise BadRecord(f"stages.{name}: {wrong or 'name'} of a row is of another type")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
