"""How figures look and how they are saved: the same bytes every time, light and dark.

    look("scheme", "gpw").colour, look("scheme", "gpw").marker

Colours are roles. A figure is drawn in the light colours; inside the HTML page every role becomes a
CSS variable, so that the page's dark mode recolours figures too. ``LOOKS`` is the one table of what
looks how: the same scheme, target or quantizer has the same colour and marker in every figure of
every page. Hues are Okabe and Ito's (2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.8  # inches: at 400 px of window width, 9 pt text is still 9.5 px high
DPI = 200
RAMP = 5  # roles that stand for a rising number
TIP = "tip"  # starts the ids of markers with a text for the pointer

# role: (light, dark). Lines and markers: Okabe and Ito's hues, dark enough for text on the page.
ROLES: dict[str, tuple[str, str]] = {
    "page": ("#fffffe", "#14171b"),
    "ink": ("#1c2024", "#e8eaed"),
    "muted": ("#5f6670", "#a2a9b3"),
    "grid": ("#dfe2e6", "#333941"),
    "band": ("#efe6c8", "#4a4325"),
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#d55e00", "#ff8a3d"),
    "ochre": ("#a56a00", "#e6a817"),
    "pink": ("#b0528a", "#e39ac6"),
    "green": ("#00805e", "#2fc79b"),
    "olive": ("#6b6b00", "#c9c94a"),
    "violet": ("#5b4bb0", "#a99cf0"),
    "ramp0": ("#3b0f70", "#b7a4ea"),
    "ramp1": ("#8c2981", "#dc8fd6"),
    "ramp2": ("#c03a76", "#f28cb1"),
    "ramp3": ("#e0533a", "#ff9d7e"),
    "ramp4": ("#c77800", "#ffbf4d"),
    # parts of a bar, after Tol (2021): a hue for each unit, a tint for each thing that it does
    "indigo": ("#332f8a", "#8a86ee"),
    "lilac": ("#8d8fd4", "#c3c4f7"),
    "pine": ("#0f6b5c", "#37a893"),
    "teal": ("#44a08f", "#6cc9b8"),
    "mint": ("#8fcabd", "#a3e3d6"),
    "frost": ("#c6e4dd", "#d5f2ec"),
    "gold": ("#b58a17", "#c99f2e"),
    "sand": ("#e0cb7a", "#ecd98f"),
    "wine": ("#a03a5e", "#d4688e"),
    "rose": ("#dc9db2", "#f0bccb"),
    "grey": ("#b4bac2", "#596069"),
}


@dataclass(frozen=True)
class Look:
    """How one thing is drawn everywhere: ``role`` of its colour, and its marker."""

    role: str
    marker: str = "o"

    @property
    def colour(self) -> str:
        """The colour that figures are drawn in."""
        return light(self.role)


# Kind -> name -> look, in the order of legends and tables. Targets of one family share a hue.
LOOKS: dict[str, dict[str, Look]] = {
    "scheme": {
        "dense": Look("ink", "*"),
        "gpw": Look("blue", "o"),
        "block": Look("orange", "s"),
        "channel": Look("ochre", "v"),
        "vector": Look("pink", "D"),
        "fine": Look("green", "^"),
        "balanced": Look("olive", "P"),
        "frontier": Look("violet", "h"),  # of scripts: pruned under a budget
        "gpw minus block": Look("ink", "P"),
    },
    "target": {
        "vta": Look("blue", "o"),
        "vta_old_rtl": Look("blue", "X"),
        "vta_pynq": Look("blue", "d"),
        "nvdla_small": Look("orange", "s"),
        "nvdla_small_256": Look("orange", "X"),
        "nvdla_medium_512": Look("ochre", "<"),
        "nvdla_medium_1024": Look("ochre", ">"),
        "nvdla_large": Look("ochre", "v"),
        "nvdla_full": Look("ochre", "X"),
        "dnnweaver": Look("pink", "D"),
        "simba": Look("green", "^"),
        "maeri": Look("violet", "P"),
        "eie": Look("olive", "h"),
        "eie_256": Look("olive", "X"),
    },
    "quantizer": {
        "best": Look("blue", "o"),
        "profile": Look("orange", "s"),
        "nest_fused": Look("green", "^"),
        "paper001": Look("ochre", "v"),
        "tvm_single": Look("pink", "D"),
        "sdp": Look("violet", "P"),
    },
    # parts of bars: what cycles are spent on, by unit and by pass
    "part": {
        "gemm": Look("indigo"),
        "mac": Look("indigo"),
        "tile": Look("indigo"),
        "first_layer": Look("lilac"),
        "reset": Look("pine"),
        "bias": Look("teal"),
        "shortcut": Look("mint"),
        "pool": Look("frost"),
        "copy": Look("frost"),
        "alu": Look("gold"),
        "post": Look("gold"),
        "shift": Look("gold"),
        "clamp": Look("sand"),
        "queues": Look("indigo"),
        "moves": Look("wine"),
        "pipeline": Look("grey"),
        "load": Look("wine"),
        "dram": Look("wine"),
        "store": Look("rose"),
        "stall": Look("grey"),
    },
}
_SPARE = [Look(role, m) for m in "X<>dhp" for role in ("violet", "olive", "pink", "green", "ochre")]
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


def look(what: str, name: str) -> Look:
    """How ``name`` is drawn on every page; a name that is not in LOOKS gets one of the spare looks.

    ``what``: a key of LOOKS.
    """
    known = LOOKS[what].get(name)
    return known or _SPARE[crc32(name.encode()) % len(_SPARE)]


def rank(what: str, name: str) -> tuple[int, str]:
    """Sort key: the order of LOOKS, names that are not there last, by name."""
    names = list(LOOKS[what])
    return (names.index(name) if name in names else len(names), name)


def ramp(levels: Sequence[float], value: float) -> str:
    """The role of ``value`` among the rising ``levels``, from dark to bright."""
    place = list(levels).index(value) / max(1, len(levels) - 1)
    return f"ramp{round(place * (RAMP - 1))}"


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
        # very long names: the figure is drawn without the layout that they leave no room for
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=nothing)
        # Verdana has DejaVu Sans's widths, for readers who have not installed it
    text = svg.getvalue().decode().replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    text = _with_titles(text, texts)
    return png.getvalue(), "".join(line.rstrip() + "\n" for line in text.splitlines())


def add_tips(axes: Axes, tips: Sequence[tuple[float, float, str]]) -> None:
    """Show a text at each (x, y) of the SVG on hover, by an invisible marker."""
    for x, y, text in tips:
        (marker,) = axes.plot([x], [y], "o", ms=9, alpha=0, zorder=9)
        add_tip(marker, text)


def add_tip(artist: Artist, text: str) -> None:
    """Show ``text`` on hover over a line or a bar of the SVG."""
    artist.set_gid(TIP)
    artist.set_label(f"_{text}")  # labels with an underscore stay out of legends


def _number_tips(figure: Figure) -> list[str]:
    """Make the ids of tips unique; returns their texts."""
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


def css_variables(theme: int) -> str:
    """Declarations of all roles: theme 0 is light, 1 dark."""
    return " ".join(f"--{role}: {colours[theme]};" for role, colours in ROLES.items())
