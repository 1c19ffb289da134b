"""The answer of a sweep: what each network costs and gains, compared with the dense one.

    rows = answers(load_sweep(folder))
    best = pick(rows, max_ms=0.8)            # the most accurate network within limits
    table(rows)                              # lines for a terminal

Seeds of one setting are one row: the mean, the standard deviation and how many there were. Where
no dense network was simulated, its accuracy is that of its weights in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.summary import dense_of


@dataclass(frozen=True)
class Answer:
    """One setting. ``accuracy`` and ``loss`` (against dense) in percentage points.

    ``cycles``, ``milliseconds`` and ``dram_bytes`` for one image; None where nothing was simulated.
    ``faster``: times the dense network's speed; None where its cycles are not known and where
    pruning has ``cut`` the network through: it answers the same for every image.
    """

    name: str
    ids: tuple[str, ...]
    accuracy: float
    spread: float | None  # standard deviation over seeds; None: one seed
    seeds: int
    images: int
    loss: float | None
    cycles: float | None
    milliseconds: float | None
    faster: float | None
    dram_bytes: float | None
    bound_cycles: float | None
    cut: bool = False


def answers(sweep: Sweep) -> list[Answer]:
    """One row per finished setting, in the sweep's order; the dense networks first."""
    done = sweep.done
    if done.empty:
        return []
    keys = ["model", "scheme", "variant", "sparsity"]
    groups = [group for _, group in done.groupby(keys, sort=False, dropna=False)]
    rows = [_answer(group, done) for group in groups]
    return sorted(rows, key=lambda row: not row.name.startswith("dense"))


def measured_accuracy(frame: pd.DataFrame) -> pd.Series[float]:
    """The accuracy of the last stage that measured one: on the NPU, integers, fine-tuned, dense."""
    names = ["npu_accuracy", "fused_accuracy", "quantized_accuracy", "accuracy", "dense_accuracy"]
    return frame[names].bfill(axis=1)[names[0]]


def _answer(group: pd.DataFrame, done: pd.DataFrame) -> Answer:
    first, found = group.iloc[0], measured_accuracy(group)
    dense_accuracy, dense_cycles = dense_beside(first, done)
    cycles, cut = _mean(group["cycles"]), bool(group["cut"].any())
    accuracy = float(found.mean())
    return Answer(
        name=_name(first),
        ids=tuple(group["id"]),
        accuracy=accuracy,
        spread=float(found.std()) if len(found) > 1 else None,
        seeds=len(found),
        images=int(first["n_test"]),
        loss=None if dense_accuracy is None else accuracy - dense_accuracy,
        cycles=cycles,
        milliseconds=_mean(group["milliseconds"]),
        faster=dense_cycles / cycles if dense_cycles and cycles and not cut else None,
        dram_bytes=_mean(group["dram_bytes"]),
        bound_cycles=_mean(group["bound_cycles"]),
        cut=cut,
    )


def _name(row: pd.Series) -> str:
    sparsity = "" if row["scheme"] == "dense" else f" {100 * row['sparsity']:.4g} %"
    variant = f" ({row['variant']})" if row["variant"] else ""
    return f"{row['scheme']}{sparsity}{variant}"


def dense_beside(row: pd.Series, done: pd.DataFrame) -> tuple[float | None, float | None]:
    """(accuracy, cycles) of the network that ``row`` was pruned from."""
    if row["scheme"] == "dense":
        return None, row["cycles"]
    same = done[(done["scheme"] == "dense") & (done["pretrain_key"] == row["pretrain_key"])]
    same = same[same["target"].eq(row["target"]) & same["quantizer"].eq(row["quantizer"])]
    same = dense_of(same, str(row["variant"]))
    if len(same):
        return float(measured_accuracy(same).mean()), _mean(same["cycles"])
    return row["dense_accuracy"], _known(row["dense_cycles"])


def _mean(values: pd.Series[float]) -> float | None:
    return _known(float(values.mean()))


def _known(value: float) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def pick(
    rows: Sequence[Answer],
    *,
    max_ms: float | None = None,
    max_cycles: float | None = None,
    min_accuracy: float | None = None,
) -> Answer | None:
    """The most accurate row within limits; with ``min_accuracy`` the fastest that reaches it."""
    fit = [
        row
        for row in rows
        if not row.cut
        and row.cycles is not None
        and row.milliseconds is not None
        and (max_ms is None or row.milliseconds <= max_ms)
        and (max_cycles is None or row.cycles <= max_cycles)
        and (min_accuracy is None or row.accuracy >= min_accuracy)
    ]
    if min_accuracy is not None:
        return min(fit, key=lambda row: row.cycles or 0.0, default=None)
    return max(fit, key=lambda row: row.accuracy, default=None)


HEAD = (
    "network",
    "accuracy",
    "against dense",
    "cycles",
    "ms",
    "times faster",
    "DRAM bytes",
    "seeds",
)


def cells(row: Answer) -> tuple[str, ...]:
    """The texts of one row, in the order of ``HEAD``; empty where a value is not known."""
    spread = "" if row.spread is None else f" ± {row.spread:.2f}"
    return (
        row.name,
        f"{row.accuracy:.2f}{spread} %",
        "" if row.loss is None else f"{row.loss:+.2f}",
        "" if row.cycles is None else f"{row.cycles:,.0f}",
        "" if row.milliseconds is None else f"{row.milliseconds:.3f}",
        "cut through" if row.cut else "" if row.faster is None else f"{row.faster:.2f}",
        "" if row.dram_bytes is None else f"{row.dram_bytes:,.0f}",
        str(row.seeds),
    )


def table(rows: Sequence[Answer]) -> list[str]:
    """Lines of a plain table: names to the left, numbers to the right."""
    texts = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(text[n]) for text in texts) for n in range(len(HEAD))]
    return [
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(text, widths, strict=True))
        ).rstrip()
        for text in texts
    ]
