"""The instruction stream: order, dependencies, and the tokens that enforce them.

    stream = Stream(spec)
    stream.load(...); stream.gemm(...); stream.store(...)     # in an order that runs sequentially
    ops = stream.tokens()                                     # flags set

Instructions are added in a sequentially valid order, so no token can deadlock. Each one states
which scratchpad elements it reads and writes; from the last reader and writer of each element
follows what it must wait for. Only the latest needed instruction of a neighbouring module gets a
token, and only if no earlier instruction of the waiting module has already waited for it or a later
one: tokens pair up one to one in order, and none is left over.

STORE and LOAD are no neighbours: a LOAD that needs stored bytes waits for a COMPUTE instruction
that itself waited for the STORE, or for an empty one added for that.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    AluOp,
    FinishInsn,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)
from gpw_cli.targets.vta.isa.modules import QUEUES, Module, TokenQueue
from gpw_cli.targets.vta.lowering.layout import Tensor

UInt32 = NDArray[np.uint32]


@dataclass(eq=False)
class Op:
    """One instruction: its module, layer, micro-ops (if any) and, a module, what it waits for.

    ``role``: what it is for, see ``Program.passes``.
    """

    module: Module
    insn: Insn
    layer: str
    uops: UInt32 | None = None
    waits: dict[Module, int] = field(default_factory=dict)
    flags: dict[str, bool] = field(default_factory=dict)
    role: str = "tile"


@dataclass(frozen=True)
class Span:
    """Elements [begin, end) of a scratchpad."""

    begin: int
    end: int


class _Board:
    """Last writer and last reader (instruction numbers, -1: none) of each element."""

    def __init__(self, size: tuple[int, ...]) -> None:
        self.writer = np.full(size, -1, np.int64)
        self.reader = np.full(size, -1, np.int64)

    def written(self, where: Any) -> int:
        """Number of the last instruction that wrote there."""
        return int(self.writer[where].max(initial=-1))

    def read(self, where: Any) -> int:
        """Number of the last instruction that read there."""
        return int(self.reader[where].max(initial=-1))


_NOTHING = Span(0, 0)
_ROLES = {AluOp.SHR: "shift", AluOp.ADD: "bias", AluOp.MAX: "clamp", AluOp.MIN: "clamp"}


class Stream:
    """Instructions in order, with their dependencies."""

    def __init__(self, spec: VtaSpec) -> None:
        self.spec = spec
        self.ops: list[Op] = []
        self.layer = self._computing = ""
        depths = {MemType.INP: spec.inp_depth, MemType.WGT: spec.wgt_depth}
        self._boards = {kind: _Board((depth,)) for kind, depth in depths.items()}
        self._acc = _Board((spec.acc_depth,))
        self._dram: dict[str, NDArray[np.int64]] = {}
        self._waited: list[tuple[int, int]] = []  # (latest STORE waited for, COMPUTE instruction)

    def declare(self, tensor: Tensor, *, host: bool = False) -> None:
        """A tensor that will be stored, or that the host has written (``host``)."""
        size = (tensor.groups, *tensor.shape[1:])
        self._dram[tensor.name] = np.full(size, -2 if host else -1, np.int64)

    def available(self, tensor: Tensor, where: Any) -> bool:
        """Whether every STORE of ``tensor[where]`` (group, row, column slices) stands already."""
        return bool((self._dram[tensor.name][where] != -1).all())

    def load_tensor(self, insn: MemInsn, span: Span, tensor: Tensor, where: Any) -> None:
        """LOAD of stored pixels into the input elements ``span``."""
        board = self._boards[MemType.INP]
        free = board.read(slice(span.begin, span.end))
        stored = int(self._dram[tensor.name][where].max())
        if stored >= 0:
            free = max(free, self._relay(stored))
        number = self._add(Module.LOAD, insn, {Module.COMPUTE: free})
        board.writer[span.begin : span.end] = number

    def load_constants(self, insn: MemInsn) -> None:
        """LOAD of weights or of constant inputs, one row without padding."""
        board = self._boards[insn.memory_type]
        where = slice(insn.sram_base, insn.sram_base + insn.x_size)
        number = self._add(Module.LOAD, insn, {Module.COMPUTE: board.read(where)})
        board.writer[where] = number

    def load_vectors(self, insn: MemInsn) -> None:
        """LOAD of accumulators (COMPUTE does it)."""
        self._compute(insn, Span(insn.sram_base, insn.sram_base + insn.x_size))

    def gemm(
        self,
        insn: GemmInsn,
        uops: UInt32,
        acc: Span,
        inp: Span = _NOTHING,
        wgt: Span = _NOTHING,
        *,
        role: str,
    ) -> None:
        """GEMM on ``acc``; ``inp`` and ``wgt`` are what it may read."""
        number = self._compute(insn, acc, {MemType.INP: inp, MemType.WGT: wgt}, uops)
        self.ops[number].role = role
        for kind, span in ((MemType.INP, inp), (MemType.WGT, wgt)):
            self._boards[kind].reader[span.begin : span.end] = number

    def alu(self, insn: AluInsn, uops: UInt32, acc: Span, *, role: str = "") -> None:
        """ALU instruction that writes within ``acc``; ``role``: that of its operation if empty."""
        number = self._compute(insn, acc, uops=uops)
        self.ops[number].role = role or _ROLES[AluOp(insn.alu_opcode)]

    def store(self, insn: MemInsn, span: Span, tensor: Tensor, where: Any) -> None:
        """STORE of the accumulators ``span`` to ``tensor[where]``."""
        written = self._acc.written(slice(span.begin, span.end))
        number = self._add(Module.STORE, insn, {Module.COMPUTE: written})
        self._acc.reader[span.begin : span.end] = number
        self._dram[tensor.name][where] = number

    def finish(self) -> None:
        """FINISH after everything."""
        last = {op.module: number for number, op in enumerate(self.ops)}
        last.pop(Module.COMPUTE, None)
        self._add(Module.COMPUTE, FinishInsn(), last)

    def _compute(
        self,
        insn: Insn,
        acc: Span,
        reads: dict[MemType, Span] | None = None,
        uops: UInt32 | None = None,
    ) -> int:
        loaded = max(
            (
                self._boards[kind].written(slice(span.begin, span.end))
                for kind, span in (reads or {}).items()
            ),
            default=-1,
        )
        stored = self._acc.read(slice(acc.begin, acc.end))
        waits = {Module.LOAD: loaded, Module.STORE: stored}
        number = self._add(Module.COMPUTE, insn, waits, uops)
        self._computing = self.layer
        self._note(stored, number)
        self._acc.writer[acc.begin : acc.end] = number
        return number

    def _note(self, stored: int, number: int) -> None:
        if stored > (self._waited[-1][0] if self._waited else -1):
            self._waited.append((stored, number))

    def _relay(self, stored: int) -> int:
        """A COMPUTE instruction that runs after the STORE ``stored``: the earliest there is."""
        place = bisect_left(self._waited, (stored, -1))
        if place == len(self._waited):
            empty = MemInsn(opcode=Opcode.LOAD, memory_type=MemType.UOP, y_size=0)
            number = self._add(Module.COMPUTE, empty, {Module.STORE: stored})
            self.ops[number].layer = self._computing
            self._note(stored, number)
        return self._waited[place][1]

    def _add(
        self, module: Module, insn: Insn, waits: dict[Module, int], uops: UInt32 | None = None
    ) -> int:
        needed = {other: number for other, number in waits.items() if number >= 0}
        self.ops.append(Op(module, insn, self.layer, uops, needed))
        return len(self.ops) - 1

    def tokens(self) -> list[Op]:
        """The instructions with their dependency flags."""
        for queue in QUEUES:
            self._pair(queue)
        for op in self.ops:
            if op.flags:
                op.insn = replace(op.insn, **op.flags)  # type: ignore[arg-type]
        return self.ops

    def _pair(self, queue: TokenQueue) -> None:
        seen = -1
        for op in self.ops:
            if op.module is queue.to and op.waits.get(queue.source, -1) > seen:
                seen = op.waits[queue.source]
                op.flags[queue.pop] = True
                self.ops[seen].flags[queue.push] = True
