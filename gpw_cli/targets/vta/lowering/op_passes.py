"""Passes over the emitted instructions: dependency tokens, and their order layer by layer.

    ops = with_tokens(stream.ops)
    ops, layers = by_layer(ops, names)

Tokens make an instruction wait for what it needs. Only the latest needed instruction of a
neighbouring module gets a token, and only if no earlier instruction of the waiting module has
waited for it or a later one. Tokens thus pair up one to one, in order, and none is left over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gpw_cli.targets.vta.isa.modules import QUEUES, TokenQueue
from gpw_cli.targets.vta.isa.program import LayerRange
from gpw_cli.targets.vta.lowering.stream import Op


def with_tokens(ops: Sequence[Op]) -> tuple[Op, ...]:
    """``ops`` with the flags that their ``waits`` call for."""
    flags: list[dict[str, bool]] = [{} for _ in ops]
    for queue in QUEUES:
        for pushing, popping in _pairs(ops, queue):
            flags[pushing][queue.push] = True
            flags[popping][queue.pop] = True
    return tuple(
        replace(op, insn=replace(op.insn, **own)) if own else op  # type: ignore[arg-type]
        for op, own in zip(ops, flags, strict=True)
    )


def _pairs(ops: Sequence[Op], queue: TokenQueue) -> Iterator[tuple[int, int]]:
    """(instruction that pushes, instruction that pops) for each token of ``queue``."""
    seen = -1
    for number, op in enumerate(ops):
        if op.module is queue.to and op.waits.get(queue.source, -1) > seen:
            seen = op.waits[queue.source]
            yield seen, number


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
