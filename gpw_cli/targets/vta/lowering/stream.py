"""The instruction stream: instructions in order, and what each one has to wait for.

    stream = Stream.start(spec).in_layer("conv1")
    stream.load_tensor(...); stream.gemm(...); stream.store(...)   # in an order that runs as it is
    ops = with_tokens(stream.ops)                                  # flags set (op_passes.py)

Instructions are added in a sequentially valid order, so no token can deadlock. Each one declares
the scratchpad elements that it reads and writes; the last reader and writer of each element
determine what it has to wait for.

STORE and LOAD are not neighbours: a LOAD that needs stored bytes waits for a COMPUTE instruction
that waited for the STORE, or for an empty instruction that is added for this purpose.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import UInt32
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
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.lowering.layout import Tensor


@dataclass(frozen=True, eq=False)
class Op:
    """One instruction of ``layer``, which ``module`` runs, with its micro-ops if it has any.

    ``waits``: the number of the instruction of each other module that has to end before it.
    ``role``: what it is for, see ``Program.roles``. ``distance``: fewest micro-ops of a GEMM after
    which an accumulator returns, 0 if none does.
    """

    module: Module
    insn: Insn
    layer: str
    uops: UInt32 | None = None
    waits: Mapping[Module, int] = field(default_factory=dict)
    role: str = "tile"
    distance: int = 0


@dataclass(frozen=True)
class Span:
    """Elements [begin, end) of a scratchpad."""

    begin: int
    end: int


class _LastAccess:
    """Last writer and last reader (instruction numbers, -1: none) of each element."""

    def __init__(self, size: int) -> None:
        self.writer = np.full(size, -1, np.int64)
        self.reader = np.full(size, -1, np.int64)

    def written(self, span: Span) -> int:
        """Number of the last instruction that wrote there."""
        return int(self.writer[span.begin : span.end].max(initial=-1))

    def read(self, span: Span) -> int:
        """Number of the last instruction that read there."""
        return int(self.reader[span.begin : span.end].max(initial=-1))


_NOTHING = Span(0, 0)
_ROLES = {AluOp.SHR: "shift", AluOp.ADD: "bias", AluOp.MAX: "clamp", AluOp.MIN: "clamp"}
_NEVER, _BY_HOST = -1, -2  # in place of the number of a pixel's STORE


@dataclass(frozen=True, eq=False)
class Stream:
    """Adds instructions of ``layer``; the streams of all layers share everything else.

    ``tensors``: the STORE that wrote each pixel of each group. ``waited``: (latest STORE waited
    for, COMPUTE instruction that did), ascending.
    """

    layer: str
    ops: list[Op]
    last: Mapping[MemType, _LastAccess]
    tensors: dict[str, NDArray[np.int64]]
    waited: list[tuple[int, int]]

    @classmethod
    def start(cls, spec: VtaSpec) -> Stream:
        """An empty stream, of no layer yet."""
        depths = {
            MemType.INP: spec.inp_depth,
            MemType.WGT: spec.wgt_depth,
            MemType.ACC: spec.acc_depth,
        }
        return cls("", [], {kind: _LastAccess(size) for kind, size in depths.items()}, {}, [])

    def in_layer(self, name: str) -> Stream:
        """The same stream for instructions of the layer ``name``."""
        return replace(self, layer=name)

    def declare(self, tensor: Tensor, *, host: bool = False) -> None:
        """Declares a tensor that will be stored, or that the host has written (``host``)."""
        size = (tensor.groups, *tensor.shape[1:])
        self.tensors[tensor.name] = np.full(size, _BY_HOST if host else _NEVER, np.int64)

    def available(self, tensor: Tensor, where: Any) -> bool:
        """Whether all STOREs of ``tensor[where]`` (group, row, column slices) have been added."""
        return bool((self.tensors[tensor.name][where] != _NEVER).all())

    def load_tensor(self, insn: MemInsn, span: Span, tensor: Tensor, where: Any) -> None:
        """LOAD of stored pixels into the input elements ``span``."""
        last = self.last[MemType.INP]
        free = last.read(span)
        stored = int(self.tensors[tensor.name][where].max())
        if stored >= 0:
            free = max(free, self._relay(stored))
        number = self._add(Module.LOAD, insn, {Module.COMPUTE: free})
        last.writer[span.begin : span.end] = number

    def load_constants(self, insn: MemInsn) -> None:
        """LOAD of weights or of constant inputs, one row without padding."""
        last = self.last[insn.memory_type]
        span = Span(insn.sram_base, insn.sram_base + insn.x_size)
        number = self._add(Module.LOAD, insn, {Module.COMPUTE: last.read(span)})
        last.writer[span.begin : span.end] = number

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
        distance: int = 0,
    ) -> None:
        """GEMM on ``acc``; ``inp`` and ``wgt`` are what it may read."""
        reads = {MemType.INP: inp, MemType.WGT: wgt}
        number = self._compute(insn, acc, reads, uops, role, distance)
        for kind, span in reads.items():
            self.last[kind].reader[span.begin : span.end] = number

    def alu(self, insn: AluInsn, uops: UInt32, acc: Span, *, role: str = "") -> None:
        """ALU instruction that writes within ``acc``; ``role``: that of its operation if empty."""
        self._compute(insn, acc, uops=uops, role=role or _ROLES[AluOp(insn.alu_opcode)])

    def store(self, insn: MemInsn, span: Span, tensor: Tensor, where: Any) -> None:
        """STORE of the accumulators ``span`` to ``tensor[where]``."""
        last = self.last[MemType.ACC]
        number = self._add(Module.STORE, insn, {Module.COMPUTE: last.written(span)})
        last.reader[span.begin : span.end] = number
        self.tensors[tensor.name][where] = number

    def finish(self) -> None:
        """FINISH after everything."""
        last = {op.module: number for number, op in enumerate(self.ops)}
        last.pop(Module.COMPUTE, None)
        self._add(Module.COMPUTE, FinishInsn(), last)

    def _compute(
        self,
        insn: Insn,
        acc: Span,
        reads: Mapping[MemType, Span] | None = None,
        uops: UInt32 | None = None,
        role: str = "tile",
        distance: int = 0,
    ) -> int:
        loaded = [self.last[kind].written(span) for kind, span in (reads or {}).items()]
        last = self.last[MemType.ACC]
        stored = last.read(acc)
        waits = {Module.LOAD: max(loaded, default=-1), Module.STORE: stored}
        number = self._add(Module.COMPUTE, insn, waits, uops, role, distance)
        self._note(stored, number)
        last.writer[acc.begin : acc.end] = number
        return number

    def _note(self, stored: int, number: int) -> None:
        if stored > (self.waited[-1][0] if self.waited else -1):
            self.waited.append((stored, number))

    def _relay(self, stored: int) -> int:
        """The earliest COMPUTE instruction that runs after the STORE ``stored``."""
        found = bisect_left(self.waited, (stored, -1))
        if found == len(self.waited):
            empty = MemInsn(opcode=Opcode.LOAD, memory_type=MemType.UOP, y_size=0)
            before = next(op for op in reversed(self.ops) if op.module is Module.COMPUTE)
            in_its_layer = self.in_layer(before.layer)
            number = in_its_layer._add(Module.COMPUTE, empty, {Module.STORE: stored})
            self._note(stored, number)
        return self.waited[found][1]

    def _add(
        self,
        module: Module,
        insn: Insn,
        waits: Mapping[Module, int],
        uops: UInt32 | None = None,
        role: str = "tile",
        distance: int = 0,
    ) -> int:
        needed = {other: number for other, number in waits.items() if number >= 0}
        self.ops.append(Op(module, insn, self.layer, uops, needed, role, distance))
        return len(self.ops) - 1
