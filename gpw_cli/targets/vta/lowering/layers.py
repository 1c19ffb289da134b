"""The instructions layer by layer: ``ops, layers = by_layer(ops, names)``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gpw_cli.targets.vta.isa.program import LayerRange
from gpw_cli.targets.vta.lowering.stream import Op


def by_layer(
    ops: Sequence[Op], names: Sequence[str]
) -> tuple[tuple[Op, ...], tuple[LayerRange, ...]]:
    """``ops`` in the order of ``names``, and each layer's range: empty if nobody reads its result.

    Only loads that ran ahead move, behind instructions of other modules: no module's order changes.
    """
    order = {name: number for number, name in enumerate(names)}
    ordered = sorted(ops, key=lambda op: order[op.layer])
    count = Counter(op.layer for op in ops)
    ranges, begin = [], 0
    for name in order:
        ranges.append(LayerRange(name, begin, begin + count[name]))
        begin += count[name]
    return tuple(ordered), tuple(ranges)
