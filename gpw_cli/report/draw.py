"""Drawing code that several figures share: curves, bars, and labels that do not overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.report.looks import DASHES, light, look
from gpw_cli.report.style import add_tip, add_tips
from gpw_cli.report.summary import At, Curve
from gpw_cli.report.words import percent, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class EndLabel:
    """A text beside the data point (x, y)."""

    x: float
    y: float
    text: str
    colour: str


def draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    """Lines through the means, with error bars of one standard deviation where there are several
    seeds; x in percent.
    """
    variants = list(dict.fromkeys(curve.variant for curve in curves))
    for curve in curves:
        axes.errorbar(
            [100 * at.x for at in curve.points],
            [at.mean for at in curve.points],
            yerr=[at.sd or 0.0 for at in curve.points] if any(a.sd for a in curve.points) else None,
            color=look("scheme", curve.scheme).colour,
            marker=look("scheme", curve.scheme).marker,
            linestyle=DASHES[variants.index(curve.variant) % len(DASHES)],
            capsize=3,
            elinewidth=1.1,
        )
        add_tips(axes, [(100 * at.x, at.mean, _tip(curve, at)) for at in curve.points])


def _tip(curve: Curve, at: At) -> str:
    spread = "" if at.sd is None else f" ± {at.sd:.3g}"
    return f"{curve.label} at {percent(at.x)}: {at.mean:.4g}{spread} ({plural(at.n, 'seed')})"


def label_curves(axes: Axes, curves: Sequence[Curve], names: Sequence[str] = ()) -> None:
    """Write each curve's name (its label unless ``names`` are given) at its right end. Call it when
    the limits of the axes are final.
    """
    shown = names or [curve.label for curve in curves]
    ends = [
        EndLabel(100 * c.points[-1].x, c.points[-1].mean, name, look("scheme", c.scheme).colour)
        for c, name in zip(curves, shown, strict=True)
    ]
    label_ends(axes, ends)


def sparsity_axis(axes: Axes, curves: Sequence[Curve], room: float) -> None:
    """Put ticks at the sparsities that were run. ``room``: from ``label_room``."""
    found = sorted({100 * at.x for curve in curves for at in curve.points})
    low, high = found[0], found[-1]
    width = max(high - low, 5.0)
    axes.set_xlim(low - 0.08 * width, high + (0.05 + room) * width)
    ticks: list[float] = []
    for place in found:  # as many as have room for their numbers
        ticks += [place] if not ticks or place - ticks[-1] > 0.085 * width else []
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])


def label_room(curves: Sequence[Curve]) -> float:
    """Width of the longest end label, as a share of the width from first to last sparsity."""
    share = min(0.5, 0.025 + 0.0165 * max(len(curve.label) for curve in curves))  # of the axes
    return 1.13 * share / (1 - share)  # 1.13: with the margins of sparsity_axis


def label_ends(axes: Axes, ends: Sequence[EndLabel], size: float = 9.0) -> None:
    """Write each label right of its point, moved up or down just enough not to touch another.

    Call it when the limits of the axes are final.
    """
    figure = axes.figure
    height = axes.get_position().height * figure.get_figure(root=True).get_figheight() * 72
    low, high = axes.get_ylim()
    gap = size * 1.25 / height * (high - low)
    rising = sorted(ends, key=lambda end: end.y)
    places = _below(high, _spread([end.y for end in rising], gap), gap)
    places = [max(y, low + gap * (index + 0.4)) for index, y in enumerate(places)]
    for end, y in zip(rising, places, strict=True):
        axes.annotate(
            end.text,
            (end.x, y),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            color=end.colour,
            fontsize=size,
            fontweight="bold",
            annotation_clip=False,
            bbox={"facecolor": light("page"), "edgecolor": "none", "pad": 0.6},
        )


def same_limits(panes: Sequence[Axes]) -> None:
    """Give all panels the same limits on both axes, wide enough for each."""
    x, y = [pane.get_xlim() for pane in panes], [pane.get_ylim() for pane in panes]
    for pane in panes:
        pane.set_xlim(min(low for low, _ in x), max(high for _, high in x))
        pane.set_ylim(min(low for low, _ in y), max(high for _, high in y))


def same_x(panes: Sequence[Axes]) -> None:
    """Give all panels the same limits of x, wide enough for each."""
    limits = [pane.get_xlim() for pane in panes]
    for pane in panes:
        pane.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))


# offset in points from a marker, and which side of the text faces it
_SIDES = (
    (-4, 5, "right"),
    (5, -10, "left"),
    (5, 4, "left"),
    (0, 7, "center"),
    (-5, -10, "right"),
    (-8, -3, "right"),
)


def name_points(
    axes: Axes, names: Sequence[EndLabel], markers: Sequence[tuple[float, float]], size: float = 7.5
) -> None:
    """Write each name beside its point, on the first side where it touches no marker of
    ``markers``, no earlier name and no edge of the axes; a name that fits nowhere is left out.

    Call it when the limits and everything outside the axes are final.
    """
    from matplotlib.transforms import Bbox

    figure = axes.figure.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays the axes out
    half = 3.5 * figure.dpi / 72  # of a marker, in pixels
    taken = [
        Bbox.from_bounds(x - half, y - half, 2 * half, 2 * half)
        for x, y in axes.transData.transform(list(markers))
    ]
    for name in names:
        for dx, dy, side in _SIDES:
            text = axes.annotate(
                name.text,
                (name.x, name.y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=side,
                color=name.colour,
                fontsize=size,
            )
            text.set_in_layout(False)
            box = text.get_window_extent()
            room = axes.bbox
            inside = (
                room.x0 + 2 < box.x0 and box.x1 < room.x1 and room.y0 < box.y0 and box.y1 < room.y1
            )
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _spread(values: Sequence[float], gap: float) -> list[float]:
    """Rising ``values``, moved as little as needed to keep neighbours ``gap`` apart."""
    clusters: list[list[float]] = []  # [centre, count]
    for value in values:
        clusters.append([value, 1])
        while len(clusters) > 1 and _touch(clusters[-2], clusters[-1], gap):
            (c1, n1), (c2, n2) = clusters[-2:]
            clusters[-2:] = [[(c1 * n1 + c2 * n2) / (n1 + n2), n1 + n2]]
    return [c + (i - (n - 1) / 2) * gap for c, n in clusters for i in range(int(n))]


def _below(ceiling: float, places: Sequence[float], gap: float) -> list[float]:
    """Rising ``places``, pushed down just enough to stay below ``ceiling``."""
    pushed: list[float] = []
    for place in reversed(places):
        pushed.append(min(place, pushed[-1] - gap if pushed else ceiling))
    return pushed[::-1]


def _touch(lower: Sequence[float], upper: Sequence[float], gap: float) -> bool:
    return upper[0] - lower[0] < gap * (lower[1] + upper[1]) / 2


def part_bars(axes: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """One horizontal bar per name, the first on top, stacked from ``parts``: cycles, drawn in
    thousands.
    """
    left = [0.0] * len(names)
    for part, cycles in parts.items():
        widths, shown = [value / 1000 for value in cycles], part.replace("_", " ")
        style: Any = {"color": look("part", part).colour, "edgecolor": light("page")}
        bars = axes.barh(
            range(len(names)), widths, left=left, height=0.76, linewidth=0.4, label=shown, **style
        )
        for bar, name, value in zip(bars, names, cycles, strict=True):
            if value:
                add_tip(bar, f"{name}, {shown}: {value:,.0f} cycles")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def level(axes: Axes, y: float, text: str) -> None:
    """A thin line across the axes, its name above its left end."""
    axes.axhline(y, color=light("ink"), linewidth=1.0, linestyle=(0, (5, 3)), zorder=1.5)
    axes.annotate(
        text,
        (0, y),
        xycoords=("axes fraction", "data"),
        xytext=(3, 2.5),
        textcoords="offset points",
        va="bottom",
        color=light("ink"),
        fontsize=8.5,
    )
