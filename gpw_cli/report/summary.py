"""Means over seeds, differences between schemes, and the numbers that captions quote."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pandas as pd

from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import rank


@dataclass(frozen=True)
class At:
    """One value: the mean over ``n`` seeds and its standard deviation (None when n is 1)."""

    x: float  # sparsity, 0 to 1
    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Curve:
    """A quantity against sparsity for one scheme and one setting of all other varied axes."""

    scheme: str
    variant: str
    points: tuple[At, ...]

    @property
    def label(self) -> str:
        """As in legends: ``gpw``, or ``gpw, scope global`` where the scope is varied."""
        return f"{self.scheme}, {self.variant}" if self.variant else self.scheme


def scheme_rank(scheme: str) -> tuple[int, str]:
    """Sort key of a scheme in legends and tables: dense first, unknown ones last, by name."""
    return rank("scheme", scheme)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows by scheme (``scheme_rank``), then variant (as first met), then sparsity."""
    variants = list(dict.fromkeys(frame["variant"]))
    schemes = sorted(set(frame["scheme"]), key=scheme_rank)
    ranked = frame.assign(
        _scheme=[schemes.index(scheme) for scheme in frame["scheme"]],
        _variant=[variants.index(variant) for variant in frame["variant"]],
    ).sort_values(["_scheme", "_variant", "sparsity"], kind="stable")
    return ranked.drop(columns=["_scheme", "_variant"])


def curves(frame: pd.DataFrame, column: str) -> list[Curve]:
    """One curve for each (scheme, variant), by sparsity; rows without a value are skipped."""
    pruned = frame[frame["scheme"] != "dense"]  # the dense network is a level, not a curve
    found = in_order(pruned.dropna(subset=[column, "sparsity"]))
    result = []
    for (scheme, variant), rows in found.groupby(["scheme", "variant"], sort=False):
        points = [_at(float(str(x)), group[column]) for x, group in rows.groupby("sparsity")]
        result.append(Curve(str(scheme), str(variant), tuple(points)))
    return result


def _at(x: float, values: pd.Series[float]) -> At:
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return At(x, float(values.mean()), sd, len(values))


def differences(
    frame: pd.DataFrame, column: str, scheme: str = "gpw", reference: str = "block"
) -> list[Curve]:
    """``scheme`` minus ``reference`` at every sparsity above 0 and seed that both have, per
    variant.
    """
    keys = ["variant", "sparsity", "seed"]
    found = frame[frame["sparsity"] > 0].dropna(subset=[column])
    left, right = (found[found["scheme"] == name][[*keys, column]] for name in (scheme, reference))
    both = left.merge(right, on=keys, suffixes=("", "_reference"))
    both[column] = both[column] - both[f"{column}_reference"]
    both["scheme"] = f"{scheme} minus {reference}"
    return curves(both, column)


def overlap(frame: pd.DataFrame, column: str, scheme: str, reference: str) -> list[float] | None:
    """Sparsities at which mean - 1 sd of ``scheme`` is not above mean + 1 sd of ``reference``.

    None if a setting has a single seed, so that there is no sd. ``frame``: one variant.
    """
    found = {c.scheme: {at.x: at for at in c.points} for c in curves(frame, column)}
    upper, lower = found.get(scheme, {}), found.get(reference, {})
    touching = []
    for x in sorted(upper.keys() & lower.keys()):
        above, below = upper[x], lower[x]
        if above.sd is None or below.sd is None:
            return None
        if above.mean - above.sd <= below.mean + below.sd:
            touching.append(x)
    return touching


def main_variant(sweep: Sweep) -> tuple[Sweep, str]:
    """The sweep with only the first variant that ran and that variant's dense network, and how a
    title names it.

    For figures that several variants would overfill; accuracy against cost and the tables have all.
    """
    done = sweep.done  # a variant that was planned and not run has nothing to draw
    variants = list(dict.fromkeys(done[done["scheme"] != "dense"]["variant"]))
    if not variants:
        return sweep, ""
    dense = dense_of(sweep.frame[sweep.frame["scheme"] == "dense"], variants[0])
    kept = sweep.frame.index.isin(dense.index) | (
        (sweep.frame["scheme"] != "dense") & (sweep.frame["variant"] == variants[0])
    )
    frame = sweep.frame[kept].assign(variant="")
    return replace(sweep, frame=frame), f", {variants[0]}" if variants[0] else ""


def dense_of(dense: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The rows of ``dense`` to compare ``variant`` with: those that share most settings with it,
    and of these the ones with fewest other settings.

    Some settings (another bus) make another dense network, others (the scope) do not.
    """
    settings = _settings(variant)
    own = [_settings(str(other)) for other in dense["variant"]]
    likeness = [(len(settings & other), -len(other - settings)) for other in own]
    return dense[[each == max(likeness) for each in likeness]]


def _settings(variant: str) -> set[str]:
    return set(variant.split(", ")) - {""}


def dense_levels(sweep: Sweep, column: str = "dense_accuracy") -> list[tuple[str, At]]:
    """(variant, accuracy) of the dense networks that were pruned; each counts once. The variant is
    empty if all variants start from the same networks. If nothing was pruned, every network counts.
    """
    networks = sweep.done.dropna(subset=[column])
    pruned = networks[networks["scheme"] != "dense"]
    networks = pruned if len(pruned) else networks
    levels = []
    for variant, rows in networks.groupby("variant", sort=False):
        once = rows.drop_duplicates(["pretrain_key", column])
        levels.append((str(variant), _at(0.0, once[column])))
    if len({level for _, level in levels}) == 1:
        return [("", levels[0][1])]
    return levels


def dense_cycles(sweep: Sweep) -> float | None:
    """Cycles of the unpruned network: the mean of the runs at sparsity 0, None without one."""
    rows = sweep.done[(sweep.done["sparsity"] == 0) & sweep.done["cycles"].notna()]
    return float(rows["cycles"].mean()) if len(rows) else None


def pareto(points: list[tuple[float, float]]) -> list[int]:
    """Indices of the points (cycles, accuracy) that no other beats on both, by rising cycles."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    best, front = -math.inf, []
    for index in order:
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front
