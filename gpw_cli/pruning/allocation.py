"""How many groups are removed, and where: sparsity and scope.

    kept = select(Scope.layer, [scored_layer_1, scored_layer_2], Decimal("0.7"))

The scope says within which sets the sparsity applies: each layer (``layer``), each block of
channels the size of a tile over all kernel positions (``block``, one reading of papers/000, 2.2.3),
or all layers together (``global``). ``cycles`` has a budget instead of a sparsity: budget.py.

Of n groups at sparsity s, k = floor(s * n + 1/2) are removed with rounding ``nearest``; ``floor``
and ``ceil`` round s * n down and up. ``floor`` never removes a whole layer. The arithmetic is exact
decimal, because in binary floating point 0.7 of 45 would be one too small. The k groups with the
smallest scores are removed; of equal scores, the earlier position first. Positions are in C order
of a layer's group grid and, in scope ``global``, in the order of the layers. A higher sparsity
therefore removes a superset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    localcontext,
)
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Bools, Floats


class CountRounding(StrEnum):
    """Rounding of sparsity times the number of groups.

    ``decimal``: the rounding mode of Python's ``decimal``.
    """

    decimal: str

    def __new__(cls, name: str, decimal: str) -> CountRounding:
        """A member whose value is its name."""
        member = str.__new__(cls, name)
        member._value_, member.decimal = name, decimal
        return member

    nearest = "nearest", ROUND_HALF_UP
    floor = "floor", ROUND_FLOOR  # never a whole layer
    ceil = "ceil", ROUND_CEILING


# Functional form: "global" is a Python keyword, and OmegaConf takes an enum member by its name.
Scope = StrEnum("Scope", ["layer", "block", "global", "cycles"])


def removed_count(
    sparsity: Decimal, groups: int, rounding: CountRounding = CountRounding.nearest
) -> int:
    """The number of groups to remove: sparsity * groups, computed exactly and rounded."""
    digits = len(sparsity.as_tuple().digits) + len(str(groups))
    with localcontext(Context(prec=digits)):  # enough digits for an exact product
        product = sparsity * groups
        return int(product.to_integral_value(rounding.decimal))


def _keep(scores: Floats, sparsity: Decimal, rounding: CountRounding) -> Bools:
    order = np.argsort(scores, axis=None, kind="stable")
    kept = np.ones(scores.size, np.bool_)
    kept[order[: removed_count(sparsity, scores.size, rounding)]] = False
    return kept.reshape(scores.shape)


def _within_layers(
    layers: Sequence[Scored], sparsity: Decimal, rounding: CountRounding
) -> list[Bools]:
    return [_keep(layer.scores, sparsity, rounding) for layer in layers]


def _within_blocks(
    layers: Sequence[Scored], sparsity: Decimal, rounding: CountRounding
) -> list[Bools]:
    kept = []
    for layer in layers:
        own = np.ones(layer.scores.shape, np.bool_)
        for label in np.unique(layer.blocks):
            own[layer.blocks == label] = _keep(
                layer.scores[layer.blocks == label], sparsity, rounding
            )
        kept.append(own)
    return kept


def _over_all_layers(
    layers: Sequence[Scored], sparsity: Decimal, rounding: CountRounding
) -> list[Bools]:
    scores = [layer.scores for layer in layers]
    kept = _keep(np.concatenate([layer.ravel() for layer in scores]), sparsity, rounding)
    ends = np.cumsum([layer.size for layer in scores])[:-1]
    parts = np.split(kept, ends)
    return [part.reshape(layer.shape) for part, layer in zip(parts, scores, strict=True)]


@dataclass(frozen=True, eq=False)
class Scored:
    """The groups of a layer: ``scores`` and, in the same shape, the block of each group."""

    scores: Floats
    blocks: NDArray[np.int64]


SCOPES: Mapping[Scope, Callable[[Sequence[Scored], Decimal, CountRounding], list[Bools]]] = {
    Scope.layer: _within_layers,
    Scope.block: _within_blocks,
    Scope["global"]: _over_all_layers,
}


def select(
    scope: Scope,
    layers: Sequence[Scored],
    sparsity: Decimal,
    rounding: CountRounding = CountRounding.nearest,
) -> list[Bools]:
    """The groups to keep: a bool array (True: kept) in the shape of each of ``layers``.

    Not for scope ``cycles``, which has a budget.
    """
    return SCOPES[scope](layers, sparsity, rounding)
