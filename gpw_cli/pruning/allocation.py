"""How many groups go, and which: sparsity and scope.

    kept = select(Scope.layer, [scored_layer_1, scored_layer_2], Decimal("0.7"))

The sets that lose the same share each: every layer (scope ``layer``), every block of channels the
size of a tile over all kernel positions (``block``: one reading of papers/000, 2.2.3), or all
layers together (``global``). ``cycles`` has a budget in place of a sparsity: budget.py.

Of n groups at sparsity s, k = floor(s * n + 1/2) are removed (rounding ``nearest``; ``floor`` and
``ceil`` are those of s * n), in exact decimal arithmetic: in binary floating point, 0.7 of 45 comes
out one too small. ``floor`` never removes a whole layer. The k smallest scores go; of equal scores
the earlier position goes first. Positions run in C order through a layer's group grid and, in scope
``global``, through the layers in the order given. Hence a higher sparsity removes a superset.
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

from gpw_cli.pruning.groups import Bools, Floats


class CountRounding(StrEnum):
    """How sparsity times the number of groups becomes a whole number of groups to remove.

    ``decimal``: the rounding of Python's decimal arithmetic.
    """

    decimal: str

    def __new__(cls, name: str, decimal: str) -> CountRounding:
        """A member, which is its name."""
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
    """Number of groups to remove: sparsity * groups, rounded as ``CountRounding`` says, exactly."""
    digits = len(sparsity.as_tuple().digits) + len(str(groups))
    with localcontext(Context(prec=digits)):  # wide enough that the product is not rounded
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
    """The groups of one layer: ``scores`` and, of the same shape, the block each lies in."""

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
    """Which groups stay: one bool array for each of ``layers``, of its shape (True: kept).

    Not for scope ``cycles``, which goes by a budget.
    """
    return SCOPES[scope](layers, sparsity, rounding)
