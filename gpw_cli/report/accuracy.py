"""Accuracy against sparsity: the paper's Fig. 7, and the same before any fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpw_cli.report.draw import draw_curves, label_curves, label_room, level, sparsity_axis
from gpw_cli.report.load import Sweep
from gpw_cli.report.style import light, panels
from gpw_cli.report.summary import At, Curve, curves, dense_levels, differences, overlap
from gpw_cli.report.words import (
    NOISE,
    NOISE_SOURCE,
    basis,
    listed,
    percent,
    single_seed,
    span,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = (5.73, 23.83)  # papers/000, section 3.2: gpw above block, percentage points
PAPER_SETTING = ("resnet20", "cifar10")
AXIS = "Sparsity of the prunable weights (%)"


def draw_accuracy(sweep: Sweep) -> Figure:
    """All schemes after fine-tuning, a panel a variant, and gpw minus block below where both were
    run.
    """
    found = curves(sweep.done, "accuracy")
    gaps = differences(sweep.done, "accuracy")
    variants = list(dict.fromkeys(curve.variant for curve in found))
    first = 2.9 if len(variants) == 1 else 2.3
    heights = [first] * len(variants) + ([1.9] if gaps else [])
    figure, grid = panels(len(heights), 1, heights)
    _draw_variants([row[0] for row in grid], sweep, found, "Accuracy after fine-tuning (%)")
    if gaps:
        names = [Curve(curve.scheme, "", curve.points) for curve in found]
        names += [Curve(gap.variant, "", gap.points) for gap in gaps if len(gaps) > 1]
        sparsity_axis(grid[-1][0], names, label_room(names))
        _draw_gaps(grid[-1][0], gaps)
    grid[-1][0].set_xlabel(AXIS)
    return figure


def _draw_variants(axes: list[Axes], sweep: Sweep, found: list[Curve], title: str) -> None:
    """One panel for each setting of the other axes, all from the same lowest to highest value."""
    variants = list(dict.fromkeys(curve.variant for curve in found))
    named = [Curve(curve.scheme, "", curve.points) for curve in found]  # the title has the rest
    for pane, variant in zip(axes, variants, strict=False):
        shown = title if pane is axes[0] else "The same"
        pane.set(title=f"{shown}: {variant}" if variant else shown)
        own = [short for curve, short in zip(found, named, strict=True) if curve.variant == variant]
        sparsity_axis(pane, named, label_room(named))
        _draw_levels(pane, sweep, own)
    if len(variants) > 1:
        low = min(pane.get_ylim()[0] for pane in axes[: len(variants)])
        high = max(pane.get_ylim()[1] for pane in axes[: len(variants)])
        for pane in axes[: len(variants)]:
            pane.set_ylim(low, high)


def _draw_levels(axes: Axes, sweep: Sweep, found: list[Curve]) -> None:
    draw_curves(axes, found)
    for variant, at in dense_levels(sweep):
        level(axes, at.mean, f"dense {variant} {at.mean:.2f}".replace("  ", " "))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.06 * (high - low))  # the dense line's name stands above it
    label_curves(axes, found)


def _draw_gaps(axes: Axes, gaps: list[Curve]) -> None:
    axes.set(title="gpw minus block (percentage points)")
    axes.axhspan(*PAPER, color=light("band"), linewidth=0, zorder=0.5)
    axes.axhline(0, color=light("muted"), linewidth=0.9)
    draw_curves(axes, gaps)
    axes.annotate(
        f"paper: {PAPER[0]} to {PAPER[1]}",
        (0, PAPER[1]),
        xycoords=("axes fraction", "data"),
        xytext=(3, -3),
        textcoords="offset points",
        va="top",
        color=light("muted"),
        fontsize=8.5,
    )
    if len(gaps) > 1:
        label_curves(axes, gaps, [gap.variant for gap in gaps])
        return
    for at in gaps[0].points:
        axes.annotate(
            f"{at.mean:+.2f}",
            (100 * at.x, at.mean + (at.sd or 0.0)),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            color=light("ink"),
            fontsize=8.5,
        )
    tops = [at.mean + (at.sd or 0.0) for at in gaps[0].points]
    axes.set_ylim(top=max(PAPER[1] + 3, max(tops) + 0.16 * (max(tops) - min(0.0, *tops))))


def accuracy_caption(sweep: Sweep) -> str:
    """What the accuracy figure shows, from the numbers."""
    gaps = differences(sweep.done, "accuracy")
    sentences = _gap_sentences(gaps)
    sentences += [_nearest_sentence(gaps), *_certainty(sweep, gaps)] if gaps else []
    if not gaps:
        sentences += [_curve_sentence(curve) for curve in curves(sweep.done, "accuracy")]
    sentences += [_dense_sentence(sweep), _reached_sentence(sweep), basis(sweep)]
    return " ".join(sentence for sentence in sentences if sentence)


def _gap_sentences(gaps: list[Curve]) -> list[str]:
    """One a variant, or one for all where gpw is above block everywhere."""
    if len(gaps) < 2 or any(_sign(at.mean) < 1 for gap in gaps for at in gap.points):
        return [_gap_sentence(gap, len(gaps) > 1) for gap in gaps]
    parts: list[str] = []
    for gap in gaps:
        where = f" within the paper's {PAPER[0]} to {PAPER[1]}" if not parts else ""
        count = f"{_inside(gap)} of {len(gap.points)}{where}"
        parts.append(f"by {_by(list(gap.points))} in {gap.variant} ({count})")
    return [f"gpw is above block at every sparsity, {listed(parts)}."]


def _inside(gap: Curve) -> int:
    return sum(PAPER[0] <= at.mean <= PAPER[1] for at in gap.points)


def _gap_sentence(gap: Curve, several: bool) -> str:
    above, equal, below = (
        [at for at in gap.points if _sign(at.mean) == sign] for sign in (1, 0, -1)
    )
    where = f" in {gap.variant}" if several else ""
    every = "every sparsity" if len(above) > 1 else percent(gap.points[0].x)
    some = (
        every if len(above) == len(gap.points) else f"{len(above)} of {len(gap.points)} sparsities"
    )
    if above:
        text = f"gpw is above block at {some}{where}, by {_by(above)}"
    else:
        text = f"gpw is above block at no sparsity{where}"
    text += f", equal at {_places(equal)}" if equal else ""
    text += f", below it at {_places(below)} by {_by(below)}" if below else ""
    return (
        f"{text}; {_inside(gap)} of {len(gap.points)} lie in the paper's {PAPER[0]} to {PAPER[1]}."
    )


def _nearest_sentence(gaps: list[Curve]) -> str:
    """The variant whose smallest and largest difference are nearest to the paper's."""
    ends = {(gap.points[0].x, gap.points[-1].x) for gap in gaps}
    widest = (min(low for low, _ in ends), max(high for _, high in ends))
    whole = [gap for gap in gaps if (gap.points[0].x, gap.points[-1].x) == widest]
    if len(whole) < 2 or widest[0] == widest[1]:
        return ""
    best = min(whole, key=lambda gap: sum(map(abs, _misses(gap))))
    means = [at.mean for at in best.points]
    return f"Nearest to the paper's range comes {best.variant} ({span(means)})."


def _misses(gap: Curve) -> tuple[float, float]:
    means = [at.mean for at in gap.points]
    return min(means) - PAPER[0], max(means) - PAPER[1]


def _sign(value: float) -> int:
    """Of ``value`` as it is printed: 0 for anything that shows as 0.00."""
    shown = round(value, 2)
    return (shown > 0) - (shown < 0)


def _places(points: list[At]) -> str:
    return listed([percent(at.x) for at in points])


def _by(points: list[At]) -> str:
    return f"{span([abs(at.mean) for at in points])} points"


def _certainty(sweep: Sweep, gaps: list[Curve]) -> list[str]:
    sentences = []
    small = sorted(
        {at.x for gap in gaps for at in gap.points if at.n == 1 and abs(at.mean) < NOISE}
    )
    if small:
        at = listed([percent(x) for x in small])
        sentences.append(
            f"At {at} the difference is below {NOISE} point on one seed, which is noise: "
            f"{_noise(sweep)}."
        )
    elif single_seed(sweep):
        sentences.append(f"A single seed: differences below {NOISE} point would be noise.")
    sentences += [_overlap_sentence(sweep, gap.variant, len(gaps) > 1) for gap in gaps]
    if {tuple(row) for row in sweep.done[["model", "data"]].to_numpy()} != {PAPER_SETTING}:
        sentences.append("The paper's range is for ResNet-20 on CIFAR-10.")
    return sentences


def _overlap_sentence(sweep: Sweep, variant: str, several: bool) -> str:
    rows = sweep.done[sweep.done["variant"] == variant]
    touching = overlap(rows, "accuracy", "gpw", "block")
    if touching is None:
        return ""
    at = f"overlap at {listed([percent(x) for x in touching])}" if touching else "never overlap"
    where = f" in {variant}" if several else ""
    return f"Mean and sd over seeds{where}; the ranges of one sd {at}."


def _noise(sweep: Sweep) -> str:
    """What the noise is known from: few pictures, or the published spread over seeds."""
    fewest = sweep.done["n_test"].min()
    if 100 / fewest > NOISE / 10:
        return f"one of {fewest:,.0f} test pictures is {100 / fewest:.2f} point"
    return NOISE_SOURCE


def _curve_sentence(curve: Curve) -> str:
    first, last = curve.points[0], curve.points[-1]
    start = f"{curve.label}: {first.mean:.2f} % at {percent(first.x)}"
    return f"{start}." if first == last else f"{start}, {last.mean:.2f} % at {percent(last.x)}."


def _dense_sentence(sweep: Sweep) -> str:
    levels = [
        f"{at.mean:.2f} %" + (f" ({variant})" if variant else "")
        for variant, at in dense_levels(sweep)
    ]
    return f"Before pruning: {listed(levels)}." if levels else ""


def _reached_sentence(sweep: Sweep) -> str:
    """Where whole groups cannot meet the requested sparsity within one point, say what was met."""
    parts: list[str] = []
    found = curves(sweep.done, "sparsity_prunable")
    for curve in found:
        off = [at for at in curve.points if abs(at.mean - at.x) > 0.01]
        reached = [f"{percent(at.x)} became {100 * at.mean:.1f} %" for at in off]
        parts += [f"{curve.label}: {listed(reached)}"] if reached else []
    if len(parts) > 2:
        far, name = max((abs(at.mean - at.x), c.label) for c in found for at in c.points)
        most = f"by up to {100 * far:.1f} points ({name})"
        return f"Whole groups only, so the sparsity reached differs from what was asked {most}."
    return (
        f"Whole groups only, so the sparsity reached differs: {'; '.join(parts)}." if parts else ""
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
    """How much the pruned weights know before they are trained again."""
    rows = sweep.done[sweep.done["sparsity"] > 0]
    points = [(c.label, at) for c in curves(rows, "pruned_accuracy") for at in c.points]
    if not points:
        return basis(sweep)
    label, best = max(points, key=lambda point: point[1].mean)
    text = f"Pruned weights alone reach at most {best.mean:.2f} % ({label} at {percent(best.x)})"
    gains = (rows["accuracy"] - rows["pruned_accuracy"]).dropna().tolist()
    if gains:
        text += f"; fine-tuning changes a point's accuracy by {span(gains)} points"
    return f"{text}. {basis(sweep)}"
