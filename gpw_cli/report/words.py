"""The wording that captions share: ranges, lists, and what every number was measured on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gpw_cli.report.load import Sweep

NOISE = 0.5  # percentage points
NOISE_SOURCE = (
    "the dense ResNet-20 alone varies with sd 0.23 from seed to seed (n = 246, Renda et al. 2020)"
)


def percent(x: float) -> str:
    """0.5 -> ``50 %``, 0.125 -> ``12.5 %``."""
    return f"{100 * x:.4g} %"


def plural(n: int, word: str) -> str:
    """``1 seed``, ``3 seeds``, ``10,000 test images``."""
    return f"{n:,} {word}" + ("" if n == 1 else "s")


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def span(values: Sequence[float], digits: int = 2) -> str:
    """``1.20 to 8.90``, or one number where all are the same to ``digits`` decimals."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def signed_span(values: Sequence[float], low: str, high: str) -> str:
    """``0.05 percentage points above to 0.25 below``: ``span`` of values with two directions.

    ``low``: the word for negative values, ``high``: for the others.
    """
    points = "percentage points"
    least, most = round(min(values), 2), round(max(values), 2)
    if least >= 0:
        return f"{span([max(v, 0.0) for v in values])} {points} {high}"
    if most <= 0:
        return f"{span([max(-v, 0.0) for v in values])} {points} {low}"
    return f"{-least:.2f} {points} {low} to {most:.2f} {high}"


def times_faster(ratio: float) -> str:
    """``3.32 times faster``, or that it is not."""
    return f"{ratio:.2f} times faster" if ratio >= 1.005 else "not faster"


def cycle_unit(most: float) -> tuple[float, str]:
    """Factor and name of the unit in which ``most`` cycles are drawn."""
    return (1e-6, "Million") if most >= 1e6 else (1e-3, "Thousand")


def basis(sweep: Sweep) -> str:
    """n, seeds, epochs and recipes of the finished runs, as one sentence."""
    done = sweep.done
    seeds = int(done.groupby(["scheme", "variant", "sparsity"])["seed"].nunique().max())
    fewest = int(done.groupby(["scheme", "variant", "sparsity"])["seed"].nunique().min())
    parts = [f"n = {_numbers(done['n_test'])} test images"] if done["n_test"].notna().any() else []
    count = plural(seeds, "seed")
    parts.append(f"{count} per setting" if fewest == seeds else f"{fewest} to {count} per setting")
    for stage, verb in (("finetune", "fine-tuning"), ("pretrain", "pre-training")):
        if text := _training(done, stage):
            parts.append(f"{text} of {verb}")
    where = " on ".join(listed(names) for c in ("model", "data") if (names := _names(done[c])))
    return f"{where or 'All runs'}: {', '.join(parts)}."


def _training(done: pd.DataFrame, stage: str) -> str:
    if not done[f"{stage}_epochs"].notna().any():
        return ""
    recipes = _names(done[f"{stage}_recipe"])
    recipe = f" (recipe {listed(recipes)})" if recipes else ""
    epochs = _numbers(done[f"{stage}_epochs"])
    return f"{epochs} epoch{'' if epochs == '1' else 's'}{recipe}"


def _numbers(values: pd.Series[float]) -> str:
    found = sorted({int(v) for v in values.dropna()})
    return listed([f"{v:,}" for v in found])


def _names(values: pd.Series[str]) -> list[str]:
    return [str(v) for v in dict.fromkeys(values.dropna())]


def cut_note(sweep: Sweep) -> str:
    """Which networks are cut through, as a sentence; empty if none is."""
    rows = sweep.done[sweep.done["cut"].eq(True)].drop_duplicates(["scheme", "sparsity"])
    names = [f"{row['scheme']} {percent(row['sparsity'])}" for _, row in rows.iterrows()]
    if not names:
        return ""
    verbs = ("answers", "is") if len(names) == 1 else ("answer", "are")
    same = f"{verbs[0]} the same for every image, because a layer lost all weights"
    return f"{listed(names)} {same}, and {verbs[1]} left out. "


def npu_name(sweep: Sweep) -> str:
    """The target that the finished runs were compiled for; "the NPU" if there are several."""
    names = _names(sweep.done["target"])
    return names[0] if len(names) == 1 else "the NPU"


def single_seed(sweep: Sweep) -> bool:
    """Whether every setting was run with a single seed."""
    groups = sweep.done.groupby(["scheme", "variant", "sparsity"])["seed"]
    return bool((groups.nunique() <= 1).all())
