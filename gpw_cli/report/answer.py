"""The answer of a sweep: what each network costs and gains, compared with the dense one.

    rows = answers(load_sweep(folder))
    best = pick(rows, max_ms=0.8)            # the most accurate network within limits
    table(rows)                              # lines for a terminal

Seeds of one setting are one row: the mean, the standard deviation and how many there were. Where
no dense network was simulated, its accuracy is that of its weights in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gpw_cli.report.frame import dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.summary import dense_of
from gpw_cli.report.words import percent


@dataclass(frozen=True)
class Answer:
    """One setting. ``accuracy`` and ``loss`` (against dense) in percentage points.

    ``cycles``, ``milliseconds`` and ``dram_bytes`` for one image; None where nothing was simulated.
    ``faster``: times the dense network's speed; None for a dense network, where its cycles are not
    known, and where pruning has ``cut`` the network through: it answers the same for every image.
    ``of``: what ``accuracy`` was measured on (MEASURED), "" for the NPU; ``loss_of``: the same for
    the dense network that ``loss`` is against. ``network``: model, data set and target.
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
    of: str = ""
    loss_of: str = ""
    network: str = ""


# column of the frame -> what that accuracy is of, the last stage first
MEASURED = {
    "npu_accuracy": "",
    "fused_accuracy": "integers",
    "quantized_accuracy": "integers",
    "accuracy": "fp32",
    "pruned_accuracy": "fp32",
    "dense_accuracy": "fp32",
}


def answers(sweep: Sweep) -> list[Answer]:
    """One row per finished setting, in the sweep's order; the dense networks first."""
    done = sweep.done
    if done.empty:
        return []
    axes = [_axes(sweep.records[run]) for run in done["id"]]
    settings = list(dict.fromkeys(axes))
    groups = [done[[own == one for own in axes]] for one in settings]
    names = [_name(group.iloc[0], sweep.records[group.iloc[0]["id"]]) for group in groups]
    rows = []
    for group, name, own in zip(groups, names, settings, strict=True):
        alike = [dict(other) for other, n in zip(settings, names, strict=True) if n == name]
        rows.append(_answer(group, done, name + _apart(dict(own), alike)))
    return sorted(rows, key=lambda row: not row.name.startswith("dense"))


def _axes(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The settings of a run that its sweep varies, without the seed."""
    return tuple((k, str(v)) for k, v in (record.get("axes") or {}).items() if k != "seed")


def _apart(own: Mapping[str, str], alike: Sequence[Mapping[str, str]]) -> str:
    """The settings, after a comma each, by which ``own`` differs from those of the same name."""
    differ = [k for k, value in own.items() if any(other.get(k) != value for other in alike)]
    return "".join(f", {key.rpartition('.')[2]} {own[key]}" for key in differ)


def measured_accuracy(frame: pd.DataFrame) -> pd.Series[float]:
    """The accuracy of the last stage that measured one: on the NPU, integers, fine-tuned, dense."""
    return frame[[*MEASURED]].bfill(axis=1)["npu_accuracy"]


def _measured(row: pd.Series) -> str:
    """What ``measured_accuracy`` of ``row`` is of."""
    if pd.notna(row["npu_accuracy"]) and isinstance(of := row.get("accuracy_of"), str):
        return of
    return next((of for name, of in MEASURED.items() if pd.notna(row[name])), "")


def _answer(group: pd.DataFrame, done: pd.DataFrame, name: str) -> Answer:
    first, found = group.iloc[0], measured_accuracy(group)
    dense_accuracy, dense_cycles = dense_beside(first, done)
    beside, dense = _dense_rows(first, done), first["scheme"] == "dense"
    cycles, cut = _mean(group["cycles"]), bool(group["cut"].any())
    accuracy = float(found.mean())
    return Answer(
        name=name,
        ids=tuple(group["id"]),
        accuracy=accuracy,
        spread=float(found.std()) if len(found) > 1 else None,
        seeds=len(found),
        images=int(first["n_test"]),
        loss=None if dense_accuracy is None else accuracy - dense_accuracy,
        cycles=cycles,
        milliseconds=_mean(group["milliseconds"]),
        faster=dense_cycles / cycles if dense_cycles and cycles and not (cut or dense) else None,
        dram_bytes=_mean(group["dram_bytes"]),
        bound_cycles=_mean(group["bound_cycles"]),
        cut=cut,
        of=_measured(first),
        loss_of="" if dense else _measured(beside.iloc[0]) if len(beside) else "fp32",
        network=f"{first['model']} on {first['data']}, {first['target']}",
    )


def _name(row: pd.Series, record: Mapping[str, Any]) -> str:
    """``gpw 70 % (scope layer)``, ``gpw at 72,000 cycles``, ``dense``."""
    variant, asked = str(row["variant"]), f" {percent(row['sparsity'])}"
    if dig(record, "config.pruning.scope") == "cycles":
        budget, time = (dig(record, f"config.pruning.{key}") for key in ("budget", "budget_ms"))
        asked = f" at {budget:,} cycles" if budget else f" at {time:g} ms"
        variant = ", ".join(part for part in variant.split(", ") if part != "scope cycles")
    asked = "" if row["scheme"] == "dense" else asked
    return f"{row['scheme']}{asked}" + (f" ({variant})" if variant else "")


def _dense_rows(row: pd.Series, done: pd.DataFrame) -> pd.DataFrame:
    """The runs of the dense network that ``row`` was pruned from; none if there was none."""
    same = done[(done["scheme"] == "dense") & (done["pretrain_key"] == row["pretrain_key"])]
    same = same[same["target"].eq(row["target"]) & same["quantizer"].eq(row["quantizer"])]
    return dense_of(same, str(row["variant"])) if len(same) else same


def dense_beside(row: pd.Series, done: pd.DataFrame) -> tuple[float | None, float | None]:
    """(accuracy, cycles) of the network that ``row`` was pruned from."""
    if row["scheme"] == "dense":
        return None, row["cycles"]
    same = _dense_rows(row, done)
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
        return min(fit, key=lambda row: row.milliseconds or 0.0, default=None)
    return max(fit, key=lambda row: row.accuracy, default=None)


HEAD = (
    "network",
    "accuracy",
    "against dense",
    "cycles",
    "ms",
    "times faster",
    "DRAM bytes",
    "bound",
    "seeds",
)


def cells(row: Answer) -> tuple[str, ...]:
    """The texts of one row, in the order of ``HEAD``; empty where a value is not known."""
    spread = "" if row.spread is None else f" ± {row.spread:.2f}"
    apart = row.loss_of if row.loss_of != row.of else ""
    return (
        row.name,
        f"{row.accuracy:.2f}{spread} %{f' {row.of}' if row.of else ''}",
        "" if row.loss is None else f"{row.loss:+.2f}{f' ({apart})' if apart else ''}",
        "" if row.cycles is None else f"{row.cycles:,.0f}",
        "" if row.milliseconds is None else f"{row.milliseconds:.3f}",
        "cut through" if row.cut else "" if row.faster is None else f"{row.faster:.2f}",
        "" if row.dram_bytes is None else f"{row.dram_bytes:,.0f}",
        "" if row.bound_cycles is None else f"{row.bound_cycles:,.0f}",
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
