"""VTA's modules, the module that runs each instruction, and the token queues between modules.

    module_of(insn)                            # Module.COMPUTE
    queue_of(Module.COMPUTE, "push_next")      # TokenQueue(source=COMPUTE, to=STORE)

Fetch hands the instructions in stream order to three modules: LOAD (inp, wgt), COMPUTE (uop and acc
loads, GEMM, ALU, FINISH) and STORE. Two token queues, one in each direction, link neighbours; an
instruction waits for the tokens that it pops, and pushes when it completes.
Source: VTA's ``hardware/chisel`` (``core/Decode.scala``, ``core/Semaphore.scala``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.isa.instructions import Insn, MemInsn, MemType, Opcode


class Module(IntEnum):
    """The modules in pipeline order."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


@dataclass(frozen=True)
class TokenQueue:
    """Tokens that ``source`` pushes and ``to`` pops."""

    source: Module
    to: Module

    @property
    def push(self) -> str:
        """The flag of an instruction of ``source`` that pushes."""
        return "push_next" if self.to > self.source else "push_prev"

    @property
    def pop(self) -> str:
        """The flag of an instruction of ``to`` that pops."""
        return "pop_prev" if self.to > self.source else "pop_next"

    def __str__(self) -> str:
        return f"{self.source.name.lower()}->{self.to.name.lower()}"


QUEUES = tuple(TokenQueue(Module(a), Module(b)) for a in Module for b in Module if abs(a - b) == 1)
POPS, PUSHES = ("pop_prev", "pop_next"), ("push_prev", "push_next")
FLAGS = (*POPS, *PUSHES)
_BY_FLAG = {(q.source, q.push): q for q in QUEUES} | {(q.to, q.pop): q for q in QUEUES}

_MODULE = np.full((len(Opcode), 8), Module.COMPUTE)  # [opcode, memory type]
_MODULE[Opcode.STORE] = Module.STORE
_MODULE[Opcode.LOAD, [MemType.INP, MemType.WGT]] = Module.LOAD


def queue_of(module: Module, flag: str) -> TokenQueue | None:
    """The queue that ``flag`` refers to in ``module``; None where it has no such neighbour."""
    return _BY_FLAG.get((module, flag))


def module_of(insn: Insn) -> Module:
    """The module that runs ``insn``."""
    memory = insn.memory_type if isinstance(insn, MemInsn) else 0
    return Module(_MODULE[insn.opcode, memory])


def modules_of(opcode: Int64, memory_type: Int64) -> Int64:
    """``module_of`` for columns of decoded fields (``encoding.decode_columns``)."""
    found: Int64 = _MODULE[opcode, memory_type].astype(np.int64)
    return found
