"""Integer nodes that move codes; the tensors of a node share one scale (plan.tie_tensors)."""

from __future__ import annotations

from dataclasses import dataclass

from gpw_cli.graph.moves import Concat, Select, Upsample


@dataclass(frozen=True, eq=False)
class IntConcat(Concat):
    """``Concat`` of int8 codes."""


@dataclass(frozen=True, eq=False)
class IntSelect(Select):
    """``Select`` of int8 codes."""


@dataclass(frozen=True, eq=False)
class IntUpsample(Upsample):
    """``Upsample`` of int8 codes."""


IntMove = IntConcat | IntSelect | IntUpsample
