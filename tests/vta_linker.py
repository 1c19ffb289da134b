"""The tokens that a program of three modules needs, and some that nobody does."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from vta_reference import NAMES, PAGE, module

from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import FinishInsn, Insn, MemInsn, MemType, Opcode

NOTHING = (
    MemInsn(opcode=Opcode.LOAD, memory_type=MemType.INP),
    MemInsn(opcode=Opcode.LOAD, memory_type=MemType.UOP),
    MemInsn(opcode=Opcode.STORE, memory_type=MemType.OUT),
)
GRANULE = 4  # bytes of DRAM that one stamp stands for
Touch = tuple[str, NDArray[np.int64], bool]  # memory, elements, whether they are written


class Linker:
    """Instructions in program order, with the tokens that they need between LOAD, COMPUTE, STORE.

    A clock counts, by module, the instructions that are surely done.
    """

    def __init__(self, spec: VtaSpec, rng: random.Random) -> None:
        self.rng = rng
        self.idle = rng.choice([0.0, 0.1, 0.4])  # share of instructions with a needless token
        self.insns: list[Insn] = []
        self.last = [-1, -1, -1]  # number of each module's last instruction
        self.now = [np.zeros(3, int) for _ in range(3)]
        self.pushed: dict[tuple[int, int], list[NDArray[np.int64]]] = {
            edge: [] for edge in ((0, 1), (1, 0), (1, 2), (2, 1))
        }
        self.popped = dict.fromkeys(self.pushed, 0)
        depths = {"inp": spec.inp_depth, "wgt": spec.wgt_depth, "acc": spec.acc_depth}
        depths |= {"uop": spec.uop_depth, "dram": len(NAMES) * PAGE // GRANULE}
        self.stamps = {name: np.zeros((2, 3, depth), int) for name, depth in depths.items()}

    def add(self, insn: Insn, touches: list[Touch]) -> None:
        mine, needs = module(insn), np.zeros(3, int)
        for name, index, writes in touches:
            stamps = self.stamps[name]
            needs = np.maximum(needs, stamps[1][:, index].max(axis=1))
            if writes:
                needs = np.maximum(needs, stamps[0][:, index].max(axis=1))
        self._emit(insn, needs)
        for name, index, writes in touches:
            self.stamps[name][int(writes), mine, index] = self.now[mine][mine]

    def finish(self) -> list[Insn]:
        """All tokens popped, and FINISH after everything."""
        self.idle = 0.0
        for edge in self.pushed:
            while self.popped[edge] < len(self.pushed[edge]):
                self._emit(NOTHING[edge[1]], np.zeros(3, int), pops=[edge])
        self._emit(FinishInsn(), np.array([self.now[m][m] for m in range(3)]))
        for edge in self.pushed:
            assert self.popped[edge] == len(self.pushed[edge])
        return self.insns

    def _emit(
        self, insn: Insn, needs: NDArray[np.int64], pops: Sequence[tuple[int, int]] = ()
    ) -> None:
        mine, needs, pops = module(insn), needs.copy(), list(pops)
        far = 2 - mine
        if mine != 1 and needs[far] > self.now[mine][far]:
            if needs[far] > self.now[1][far]:
                relay = np.zeros(3, int)
                relay[far] = needs[far]
                self._emit(NOTHING[1], relay)
            needs[1] = max(needs[1], self.now[1][1])
        for other in range(3):
            edge = (other, mine)
            if edge in self.pushed and needs[other] > self.now[mine][other]:
                self._pop_until(edge, int(needs[other]))
                pops.append(edge)
        for edge in self.pushed:
            waiting = self.popped[edge] < len(self.pushed[edge])
            if edge[1] == mine and edge not in pops and waiting and self.rng.random() < 0.5:
                pops.append(edge)
        self._append(insn, pops)

    def _pop_until(self, edge: tuple[int, int], needed: int) -> None:
        """Leave a token at the head of ``edge`` that comes after ``needed`` instructions."""
        pushed = self.pushed[edge]
        if not pushed or pushed[-1][edge[0]] < needed:
            self._push(self.last[edge[0]], edge)
        while pushed[self.popped[edge]][edge[0]] < needed:
            self._append(NOTHING[edge[1]], [edge])

    def _push(self, number: int, edge: tuple[int, int]) -> None:
        flag = "push_next" if edge[1] > edge[0] else "push_prev"
        assert not getattr(self.insns[number], flag)
        self.insns[number] = replace(self.insns[number], **{flag: True})
        self.pushed[edge].append(self.now[edge[0]].copy())

    def _append(self, insn: Insn, pops: list[tuple[int, int]]) -> None:
        mine = module(insn)
        for edge in pops:
            insn = replace(insn, **{"pop_prev" if edge[0] < mine else "pop_next": True})
            self.now[mine] = np.maximum(self.now[mine], self.pushed[edge][self.popped[edge]])
            self.popped[edge] += 1
        self.now[mine] = self.now[mine].copy()
        self.now[mine][mine] += 1
        self.last[mine] = len(self.insns)
        self.insns.append(insn)
        for edge in self.pushed:
            if (
                edge[0] == mine
                and self.rng.random() < self.idle
                and not isinstance(insn, FinishInsn)
            ):
                self._push(self.last[mine], edge)
