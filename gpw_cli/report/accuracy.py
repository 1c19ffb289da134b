"""Accuracy against sparsity: the paper's Fig. 7, and the same before any fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpw_cli.report.draw import (
    draw_curves,
    label_curves,
    label_room,
    level,
    same_limits,
    same_x,
    sparsity_axis,
)
from gpw_cli.report.gaps import draw_gaps, gap_sentences, is_papers
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import panels
from gpw_cli.report.summary import Curve, curves, dense_levels, differences
from gpw_cli.report.words import basis, listed, percent, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXIS = "Sparsity of the prunable weights (%)"


def draw_accuracy(sweep: Sweep) -> Figure:
    """All schemes after fine-tuning, one panel per variant; below them gpw minus block, where both
    were run.
    """
    found = curves(sweep.done, "accuracy")
    gaps = differences(sweep.done, "accuracy")
    variants = list(dict.fromkeys(curve.variant for curve in found))
    top = 2.9 if len(variants) == 1 else 2.3
    heights = [top] * len(variants) + ([1.9] if gaps else [])
    figure, grid = panels(len(heights), 1, heights)
    _draw_variants([row[0] for row in grid], sweep, found, "Accuracy after fine-tuning (%)")
    if gaps:
        names = [Curve(curve.scheme, "", curve.points) for curve in found]
        names += [Curve(gap.variant, "", gap.points) for gap in gaps if len(gaps) > 1]
        sparsity_axis(grid[-1][0], names, label_room(names))
        draw_gaps(grid[-1][0], gaps, is_papers(sweep))
    same_x([row[0] for row in grid])
    grid[-1][0].set_xlabel(AXIS)
    return figure


def _draw_variants(axes: list[Axes], sweep: Sweep, found: list[Curve], title: str) -> None:
    """One panel per variant, all with the same limits."""
    variants = list(dict.fromkeys(curve.variant for curve in found))
    named = [Curve(curve.scheme, "", curve.points) for curve in found]  # the title has the rest
    drawn = []
    for pane, variant in zip(axes, variants, strict=False):
        shown = title if pane is axes[0] else "The same"
        pane.set(title=f"{shown}: {variant}" if variant else shown)
        own = [short for curve, short in zip(found, named, strict=True) if curve.variant == variant]
        sparsity_axis(pane, named, label_room(named))
        _draw_levels(pane, sweep, own)
        drawn.append((pane, own))
    same_limits([pane for pane, _ in drawn])
    for pane, own in drawn:
        label_curves(pane, own)


def _draw_levels(axes: Axes, sweep: Sweep, found: list[Curve]) -> None:
    draw_curves(axes, found)
    for variant, at in dense_levels(sweep):
        level(axes, at.mean, f"dense {variant} {at.mean:.2f}".replace("  ", " "))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.06 * (high - low))  # the dense line's name stands above it


def accuracy_caption(sweep: Sweep) -> str:
    """The numbers of the accuracy figure as sentences."""
    gaps = differences(sweep.done, "accuracy")
    sentences = gap_sentences(sweep, gaps)
    if not gaps:
        sentences += [_curve_sentence(curve) for curve in curves(sweep.done, "accuracy")]
    sentences += [_dense_sentence(sweep), _reached_sentence(sweep), basis(sweep)]
    return " ".join(sentence for sentence in sentences if sentence)


def _curve_sentence(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    start = f"{curve.label}: {first.mean:.2f} % at sparsity {percent(first.x)}"
    return f"{start}." if first == last else f"{start}, {last.mean:.2f} % at {percent(last.x)}."


def _dense_sentence(sweep: Sweep) -> str:
    levels = [
        f"{at.mean:.2f} %" + (f" ({variant})" if variant else "")
        for variant, at in dense_levels(sweep)
    ]
    return f"Before pruning: {listed(levels)}." if levels else ""


def _reached_sentence(sweep: Sweep) -> str:
    """The sparsity reached, where whole groups miss the requested one by more than 0.01."""
    parts: list[str] = []
    found = curves(sweep.done, "sparsity_prunable")
    for curve in found:
        off = [at for at in curve.points if abs(at.mean - at.x) > 0.01]
        reached = [f"{percent(at.x)} became {100 * at.mean:.1f} %" for at in off]
        parts += [f"{curve.label}: {listed(reached)}"] if reached else []
    if len(parts) > 2:
        far, name = max((abs(at.mean - at.x), c.label) for c in found for at in c.points)
        most = f"by up to {100 * far:.1f} percentage points ({name})"
        return (
            f"Only whole groups are removed, so the sparsity differs from the requested one {most}."
        )
    return (
        f"Only whole groups are removed, so the sparsity differs: {'; '.join(parts)}."
        if parts
        else ""
    )


def draw_before(sweep: Sweep) -> Figure:
    """Accuracy right after pruning, before any fine-tuning."""
    found = curves(sweep.done, "pruned_accuracy")
    count = len({curve.variant for curve in found})
    figure, grid = panels(count, 1, [2.5] * count)
    _draw_variants([row[0] for row in grid], sweep, found, "Accuracy before fine-tuning (%)")
    grid[-1][0].set_xlabel(AXIS)
    return figure


def before_caption(sweep: Sweep) -> str:
    """Accuracy of the pruned weights, and what fine-tuning adds to it."""
    rows = sweep.done[sweep.done["sparsity"] > 0]
    points = [(c.label, at) for c in curves(rows, "pruned_accuracy") for at in c.points]
    if not points:
        return basis(sweep)
    label, best = max(points, key=lambda point: point[1].mean)
    text = f"Pruned weights alone reach at most {best.mean:.2f} % ({label} at {percent(best.x)})"
    gains = (rows["accuracy"] - rows["pruned_accuracy"]).dropna().tolist()
    if gains:
        text += f"; fine-tuning changes a run's accuracy by {span(gains)} percentage points"
    return f"{text}. {basis(sweep)}"
