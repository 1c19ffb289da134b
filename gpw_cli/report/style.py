"""How figures look and how they are saved: the same bytes every time, light and dark.

Colours are roles. A figure is drawn in the light colours; inside the HTML page every role becomes a
CSS variable, so that the page's dark mode recolours figures too. Series colours are Okabe and Ito's
(2008), told apart by colour-blind readers, and every series has its own marker as well.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8  # inches: at 400 px of window width, 9 pt text is still 9.5 px high
DPI = 200
TIP = "tip"  # starts the ids of markers with a text for the pointer

# role: (light, dark)
ROLES: dict[str, tuple[str, str]] = {
    "page": ("#fffffe", "#14171b"),
    "ink": ("#1c2024", "#e8eaed"),
    "muted": ("#5f6670", "#a2a9b3"),
    "grid": ("#dfe2e6", "#333941"),
    "band": ("#efe6c8", "#4a4325"),
    "gpw": ("#0072b2", "#56b4e9"),
    "block": ("#d55e00", "#ff8a3d"),
    "channel": ("#a56a00", "#e6a817"),
    "vector": ("#b0528a", "#e39ac6"),
    "fine": ("#00805e", "#2fc79b"),
    "balanced": ("#6b6b00", "#c9c94a"),
    "other": ("#5b4bb0", "#a99cf0"),
    "ramp0": ("#3b0f70", "#b7a4ea"),
    "ramp1": ("#8c2981", "#dc8fd6"),
    "ramp2": ("#c03a76", "#f28cb1"),
    "ramp3": ("#e0533a", "#ff9d7e"),
    "ramp4": ("#c77800", "#ffbf4d"),
    "gemm": ("#0072b3", "#56b4ea"),
    "alu": ("#00805f", "#2fc79c"),
    "load": ("#c77801", "#ffbf4e"),
    "store": ("#b0528b", "#e39ac7"),
    "stall": ("#b4bac2", "#596069"),
}
MARKERS = {"gpw": "o", "block": "s", "channel": "v", "vector": "D", "fine": "^", "balanced": "P"}
DASHES = ("-", "--", "-.", ":")  # one line style a variant

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


def light(role: str) -> str:
    """The colour that figures are drawn in."""
    return ROLES[role][0]


def scheme_colour(scheme: str) -> str:
    """The light colour of a scheme."""
    return light(scheme if scheme in MARKERS else "other")


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
    """A figure of ``WIDTH`` and a grid of axes; heights in inches, one a row."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    return figure, [list(row) for row in axes]


def render(figure: Figure) -> tuple[bytes, str]:
    """(PNG, SVG) without date, software version or anything else that changes between runs."""
    png, svg = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # very long names: the figure is drawn without the layout that they leave no room for
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing)
        # Verdana has DejaVu Sans's widths, for readers who have not installed it
    text = svg.getvalue().decode().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    text = _with_titles(text, figure)
    return png.getvalue(), "".join(line.rstrip() + "\n" for line in text.splitlines())


def add_tips(axes: Axes, tips: Sequence[tuple[float, float, str]]) -> None:
    """Let the pointer show a text at each (x, y) of the SVG, by a marker that cannot be seen."""
    for x, y, text in tips:
        place = len(axes.lines)
        gid = f"{TIP}{list(axes.figure.axes).index(axes)}-{place}"
        # labels with an underscore stay out of legends
        axes.plot([x], [y], "o", ms=9, alpha=0, zorder=9, gid=gid, label=f"_{text}")


def _with_titles(svg: str, figure: Figure) -> str:
    """Each tip's text as the <title> of its group, which browsers show on hover."""
    lines = [line for axes in figure.axes for line in axes.lines]
    texts = {str(line.get_gid()): str(line.get_label())[1:] for line in lines if line.get_gid()}
    return re.sub(
        f'(<g id="({TIP}[0-9-]+)">)',
        lambda found: f"{found[1]}<title>{escape(texts[found[2]], quote=False)}</title>",
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


def css_variables(theme: int) -> str:
    """Declarations of all roles: theme 0 is light, 1 dark."""
    return " ".join(f"--{role}: {colours[theme]};" for role, colours in ROLES.items())
