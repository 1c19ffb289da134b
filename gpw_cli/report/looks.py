"""The colours of figures, and the one table of what has which colour and marker.

    look("scheme", "gpw").colour, look("scheme", "gpw").marker

Colours are roles. A figure is drawn in the light colours; inside the HTML page every role becomes a
CSS variable, so that the page's dark mode recolours figures too. The same scheme, target or
quantizer has the same colour and marker in every figure of every page. Hues are Okabe and Ito's
(2008), which colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

RAMP = 5  # number of roles for a rising value

# role: (light, dark). Those of lines and markers are dark enough for text on the page.
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
    # parts of a bar, after Tol (2021): a hue for each unit, a tint for each kind of work
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
    """How one thing is drawn in every figure: the ``role`` of its colour, and its marker."""

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
        "frontier": Look("violet", "h"),  # in figures of scripts: pruned under a budget
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
    """A sort key: the order of LOOKS, then the names that are not there, by name."""
    names = list(LOOKS[what])
    return (names.index(name) if name in names else len(names), name)


def ramp(levels: Sequence[float], value: float) -> str:
    """The role of ``value`` among the rising ``levels``, from dark to bright."""
    place = list(levels).index(value) / max(1, len(levels) - 1)
    return f"ramp{round(place * (RAMP - 1))}"


def css_variables(theme: int) -> str:
    """CSS declarations of all roles; theme 0 is light, 1 is dark."""
    return " ".join(f"--{role}: {colours[theme]};" for role, colours in ROLES.items())
