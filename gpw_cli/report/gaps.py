"""gpw minus block, compared with what the paper reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpw_cli.report.draw import draw_curves, label_curves
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light
from gpw_cli.report.summary import At, Curve, overlap
from gpw_cli.report.words import NOISE, NOISE_SOURCE, listed, percent, single_seed, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = (5.73, 23.83)  # papers/000, section 3.2: gpw above block, percentage points
PAPER_SETTING = ("resnet20", "cifar10")


def gap_sentences(sweep: Sweep, gaps: list[Curve]) -> list[str]:
    """The size of the difference, how it compares with the paper, and how certain it is."""
    if not gaps:
        return []
    papers = is_papers(sweep)
    nearest = [_nearest_sentence(gaps)] if papers else []
    return [*_gap_sentences(gaps, papers), *nearest, *_certainty(sweep, gaps)]


def is_papers(sweep: Sweep) -> bool:
    """Whether every finished run has the network and the data that the paper reports on."""
    return {tuple(row) for row in sweep.done[["model", "data"]].to_numpy()} == {PAPER_SETTING}


def draw_gaps(axes: Axes, gaps: list[Curve], papers: bool) -> None:
    """One line per variant, with the paper's range behind it where the setting is the paper's. The
    caller sets the limits of x.
    """
    axes.set(title="gpw minus block (percentage points)")
    axes.axhline(0, color=light("muted"), linewidth=0.9)
    draw_curves(axes, gaps)
    if papers:
        _draw_range(axes)
    axes.set_ylim(bottom=min(axes.get_ylim()[0], -3))  # a name at 0 stands clear of the edge
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
    axes.set_ylim(
        top=max(PAPER[1] + 3 if papers else 0.0, max(tops) + 0.16 * (max(tops) - min(0.0, *tops)))
    )


def _draw_range(axes: Axes) -> None:
    axes.axhspan(*PAPER, color=light("band"), linewidth=0, zorder=0.5)
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


def _gap_sentences(gaps: list[Curve], papers: bool) -> list[str]:
    """One sentence per variant, or one for all where gpw is above block everywhere."""
    if len(gaps) < 2 or any(_sign(at.mean) < 1 for gap in gaps for at in gap.points):
        return [_gap_sentence(gap, len(gaps) > 1, papers) for gap in gaps]
    parts: list[str] = []
    for gap in gaps:
        where = f" within the paper's {PAPER[0]} to {PAPER[1]}" if not parts else ""
        count = f" ({_inside(gap)} of {len(gap.points)}{where})" if papers else ""
        parts.append(f"by {_by(list(gap.points))} in {gap.variant}{count}")
    return [f"gpw is above block at every sparsity, {listed(parts)}."]


def _inside(gap: Curve) -> int:
    return sum(PAPER[0] <= at.mean <= PAPER[1] for at in gap.points)


def _gap_sentence(gap: Curve, several: bool, papers: bool) -> str:
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
    if not papers:
        return f"{text}."
    inside = _inside(gap)
    lie = f"{inside} of {len(gap.points)} {'lies' if inside == 1 else 'lie'}"
    return f"{text}; {lie} in the paper's {PAPER[0]} to {PAPER[1]}."


def _nearest_sentence(gaps: list[Curve]) -> str:
    """The variant that comes nearest to the paper's largest difference, at one sparsity.

    It is the highest sparsity that all variants have, so that one with few runs is compared too.
    """
    shared = set.intersection(*({at.x for at in gap.points} for gap in gaps))
    if len(gaps) < 2 or not shared:
        return ""
    top = max(shared)
    means = {gap.variant: next(at.mean for at in gap.points if at.x == top) for gap in gaps}
    best, *others = sorted(means, key=lambda variant: abs(means[variant] - PAPER[1]))
    rest = listed([f"{variant} {means[variant]:+.2f}" for variant in others])
    return (
        f"At {percent(top)}, the highest sparsity of all of them, {best} ({means[best]:+.2f}) is "
        f"nearest to the paper's largest difference, {PAPER[1]} ({rest})."
    )


def _sign(value: float) -> int:
    """The sign of ``value`` as it is printed: 0 for anything that shows as 0.00."""
    shown = round(value, 2)
    return (shown > 0) - (shown < 0)


def _places(points: list[At]) -> str:
    return listed([percent(at.x) for at in points])


def _by(points: list[At]) -> str:
    return f"{span([abs(at.mean) for at in points])} percentage points"


def _certainty(sweep: Sweep, gaps: list[Curve]) -> list[str]:
    sentences = []
    small = [
        percent(at.x) + (f" ({gap.variant})" if len(gaps) > 1 else "")
        for gap in gaps
        for at in gap.points
        if at.n == 1 and abs(at.mean) < NOISE
    ]
    if small:
        sentences.append(
            f"At {listed(small)} the difference is below {NOISE} percentage points on one seed, "
            f"which is noise: {_noise(sweep)}."
        )
    elif single_seed(sweep):
        sentences.append(
            f"With a single seed, differences below {NOISE} percentage points are noise."
        )
    sentences += [_overlap_sentence(sweep, gap.variant, len(gaps) > 1) for gap in gaps]
    return sentences


def _overlap_sentence(sweep: Sweep, variant: str, several: bool) -> str:
    rows = sweep.done[sweep.done["variant"] == variant]
    touching = overlap(rows, "accuracy", "gpw", "block")
    if touching is None:
        return ""
    at = f"overlap at {listed([percent(x) for x in touching])}" if touching else "never overlap"
    where = f" in {variant}" if several else ""
    return (
        f"Mean and standard deviation over seeds{where}; the ranges of one standard deviation {at}."
    )


def _noise(sweep: Sweep) -> str:
    """Why it is noise: few test images, or the published spread over seeds."""
    fewest = sweep.done["n_test"].min()
    if 100 / fewest > NOISE / 10:
        return f"one of {fewest:,.0f} test images is {100 / fewest:.2f} percentage points"
    return NOISE_SOURCE
