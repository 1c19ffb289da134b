"""A layer's mask, drawn as in papers/000, Fig. 6: kernels side by side, removed groups blank.

Rows are blocks of output channels, columns blocks of input channels; inside each block lie the
kernel's positions. A group that spans the whole kernel is filled or blank as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.report.frame import dig
from gpw_cli.report.load import Sweep
from gpw_cli.report.looks import light, look
from gpw_cli.report.style import panels
from gpw_cli.report.summary import scheme_rank
from gpw_cli.report.words import listed, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VECTOR_CELLS = 1500  # a mask with more cells is drawn as pixels
FRAMED = 32  # blocks across: with more, neither frames nor the lines between cells can be seen


@dataclass(frozen=True)
class Mask:
    """kept: bool [output groups, input groups, KH, KW]."""

    scheme: str
    layer: str
    sparsity: float
    shape: tuple[int, ...]
    groups: int
    removed: int
    kept: NDArray[np.bool_]


def chosen_masks(sweep: Sweep) -> list[Mask]:
    """One layer at one sparsity, one mask for each scheme that has both. The layer is the middle
    one of those with the most weights, the sparsity the middle one of those that most schemes
    share, the run the first of its kind.
    """
    points = sweep.done[sweep.done["drawable_masks"] > 0].drop_duplicates(["scheme", "sparsity"])
    shared = points.groupby("sparsity")["scheme"].nunique()
    best = sorted(shared[shared == shared.max()].index)
    chosen = points[points["sparsity"] == best[len(best) // 2]]
    found = {
        str(row["scheme"]): _drawable(sweep, str(row["id"])) for row in chosen.to_dict("records")
    }
    common = set.intersection(*(set(layers) for layers in found.values()))
    if not common:
        return []
    name = _telling(next(iter(found.values())), common)
    return [
        _mask(scheme, found[scheme][name], float(best[len(best) // 2]))
        for scheme in sorted(found, key=scheme_rank)
    ]


def _drawable(sweep: Sweep, point: str) -> dict[str, dict[str, Any]]:
    layers = dig(sweep.records[point], "stages.prune.layers") or []
    return {
        layer["name"]: layer
        for layer in layers
        if len(layer.get("kept") or "") == 2 * -(-layer["groups"] // 8)
    }


def _telling(layers: dict[str, dict[str, Any]], common: set[str]) -> str:
    kernels = [n for n in layers if n in common and np.prod(layers[n]["shape"][2:]) > 1]
    names = kernels or [name for name in layers if name in common]
    sizes = {name: int(np.prod(layers[name]["shape"])) for name in names}
    largest = [name for name in names if sizes[name] == max(sizes.values())]
    return largest[len(largest) // 2]


def _mask(scheme: str, layer: dict[str, Any], sparsity: float) -> Mask:
    shape = tuple(int(n) for n in [*layer["shape"], 1, 1][:4])
    grid = tuple(int(n) for n in [*layer["grid"], 1, 1][:4])
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(layer["kept"]), np.uint8))
    kept = bits[: layer["groups"]].reshape(grid).astype(bool)
    full = np.broadcast_to(kept, (grid[0], grid[1], shape[2], shape[3]))
    return Mask(scheme, layer["name"], sparsity, shape, layer["groups"], layer["removed"], full)


def draw_masks(sweep: Sweep) -> Figure:
    """The masks side by side, two in a row."""
    found = chosen_masks(sweep)
    across = min(2, len(found))
    down = -(-len(found) // across)
    figure, grid = panels(down, across, [2.75 if across == 2 else 4.5] * down)
    for index in range(down * across):
        axes = grid[index // across][index % across]
        if index < len(found):
            _draw(axes, found[index])
        else:
            axes.set_axis_off()
    return figure


def _draw(axes: Axes, mask: Mask) -> None:
    from matplotlib.colors import ListedColormap

    o, i, kh, kw = mask.kept.shape
    cells = mask.kept.transpose(0, 2, 1, 3).reshape(o * kh, i * kw)
    colours = ListedColormap(["none", look("scheme", mask.scheme).colour])
    framed = max(o, i) <= FRAMED
    axes.pcolormesh(
        cells,
        cmap=colours,
        vmin=0,
        vmax=1,
        edgecolors=light("grid") if framed else "none",
        linewidth=0.4,
        rasterized=cells.size > VECTOR_CELLS,
    )
    if framed:
        width = 0.9 if max(o, i) <= 8 else 0.35
        axes.hlines([kh * n for n in range(o + 1)], 0, i * kw, light("ink"), linewidth=width)
        axes.vlines([kw * n for n in range(i + 1)], 0, o * kh, light("ink"), linewidth=width)
    axes.invert_yaxis()
    axes.set_aspect(i * kw / (o * kh))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xticks=[], yticks=[], xlabel=f"Input channels ({mask.shape[1]})")
    axes.set_ylabel(f"Output channels ({mask.shape[0]})")
    left = mask.groups - mask.removed
    axes.set_title(f"{mask.scheme}: {left:,} of {mask.groups:,} kept", fontsize=8.5)


def masks_caption(sweep: Sweep) -> str:
    """Which layer this is, what one cell is, and how the schemes differ."""
    found = chosen_masks(sweep)
    first = found[0]
    size = " x ".join(str(n) for n in first.shape)
    kernel = f"{first.shape[2]} x {first.shape[3]}"
    parts = [f"{p.scheme} removes {p.removed:,} of {p.groups:,} groups" for p in found]
    text = (
        f"{first.layer} ({size} weights) at {percent(first.sparsity)}: {listed(parts)}. A frame "
        f"holds the {kernel} kernel positions of one block of channels; filled is kept, blank "
        "removed."
    )
    if {"gpw", "block"} <= {p.scheme for p in found}:
        partial = next(p for p in found if p.scheme == "gpw").kept.mean(axis=(2, 3))
        count = int(((partial > 0) & (partial < 1)).sum())
        text += (
            f" block keeps or drops whole frames; gpw leaves {count} of {partial.size} frames "
            "partly filled, and so keeps connections that block must cut."
        )
    return text
