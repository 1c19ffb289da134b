"""How figures are drawn and saved: the same bytes every time.

    with drawing("roofline"):
        figure, axes = panels(1, 1, [3.0])
        ...
        png, svg = render(figure)

Colours and markers are in looks.py.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from gpw_cli.report.looks import ROLES, light

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8  # inches: at 400 px of window width, 9 pt text is still 9.5 px high
DPI = 200  # of the PNG
TIP = "tip"  # prefix of the ids of artists with a text for hovering

_RC = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: the same outlines everywhere
    "font.size": 9.0,
    "svg.fonttype": "none",  # text stays text: a browser can search and copy it
    "path.simplify": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 5.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Settings for drawing and saving the figure ``name``, whatever matplotlibrc says."""
    import matplotlib as mpl

    ink = {key: light("ink") for key in ("text.color", "axes.labelcolor", "axes.titlecolor")}
    ticks = dict.fromkeys(("xtick.color", "ytick.color", "axes.edgecolor"), light("muted"))
    page = dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), light("page"))
    own: Any = {**_RC, **ink, **ticks, **page, "grid.color": light("grid"), "svg.hashsalt": name}
    with mpl.rc_context({}):
        mpl.rcdefaults()
        mpl.rcParams.update(own)
        yield


def panels(rows: int, columns: int, heights: list[float]) -> tuple[Figure, list[list[Axes]]]:
    """A figure of ``WIDTH`` and a grid of axes. ``heights``: inches, one per row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    return figure, [list(row) for row in axes]


def render(figure: Figure) -> tuple[bytes, str]:
    """(PNG, SVG) without date, software version or anything else that changes between runs."""
    png, svg = io.BytesIO(), io.BytesIO()
    texts = _number_tips(figure)
    with warnings.catch_warnings():
        # very long names leave no room for the layout; the figure is then drawn without it
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing)
        # Verdana has DejaVu Sans's widths, for readers who have not installed it
    text = svg.getvalue().decode().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    text = _with_titles(text, texts)
    return png.getvalue(), "".join(line.rstrip() + "\n" for line in text.splitlines())


def add_tips(axes: Axes, tips: Sequence[tuple[float, float, str]]) -> None:
    """Show a text on hover at each (x, y) of the SVG, by an invisible marker."""
    for x, y, text in tips:
        (marker,) = axes.plot([x], [y], "o", ms=9, alpha=0, zorder=9)
        add_tip(marker, text)


def add_tip(artist: Artist, text: str) -> None:
    """Show ``text`` on hover over a line or a bar of the SVG."""
    artist.set_gid(TIP)
    artist.set_label(f"_{text}")  # labels with an underscore stay out of legends


def _number_tips(figure: Figure) -> list[str]:
    """Make the ids of tips unique; return their texts."""
    tips = figure.findobj(lambda artist: str(artist.get_gid()).startswith(TIP))
    for number, tip in enumerate(tips):
        tip.set_gid(f"{TIP}{number}")
    return [str(tip.get_label())[1:] for tip in tips]


def _with_titles(svg: str, texts: Sequence[str]) -> str:
    """Each tip's text as the <title> of its group, which browsers show on hover."""
    return re.sub(
        f'(<g id="{TIP}([0-9]+)">)',
        lambda found: f"{found[1]}<title>{escape(texts[int(found[2])], quote=False)}</title>",
        svg,
    )


def inline_svg(svg: str, name: str, title: str) -> str:
    """The SVG for the page: ids made unique with ``name``, colours as CSS variables, no size."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.S)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    for role, (colour, _) in ROLES.items():
        body = body.replace(colour, f"var(--{role})")
    box = re.search(r'viewBox="[^"]*"', body)
    shown = f'{box[0] if box else ""} role="img" aria-label="{title}"'
    return f"<svg {shown}>{body[body.index('>') + 1 :]}"
