"""Dependency tokens, which make each instruction wait for what it needs.

    ops = with_tokens(stream.ops)

Only the latest needed instruction of a neighbouring module gets a token, and only if no earlier
instruction of the waiting module has waited for it or a later one. Tokens thus pair up one to one,
in order, and none is left over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gpw_cli.targets.vta.isa.modules import QUEUES, TokenQueue
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
