"""The steps of a plan; bound to a machine, each becomes a few tensor operations.

A step is bound once per machine, which creates all views. Its operations run once per batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.targets.vta.functional.machine import Machine
from gpw_cli.targets.vta.functional.strided import Rows
from gpw_cli.targets.vta.isa.instructions import AluOp, MemType

Operation = Callable[[], object]
Lanes = NDArray[np.int32]  # [batch * block_out], or [rows, batch * block_out]


class PlanStep(Protocol):
    """One step of a plan."""

    def bind(self, machine: Machine) -> list[Operation]:
        """The operations that perform the step on ``machine``."""
        ...


@dataclass(frozen=True, eq=False)
class Zero:
    """Zero padding of the input or accumulator scratchpad: elements ``begin`` to ``end - 1``."""

    memory_type: MemType
    begin: int
    end: int

    def bind(self, machine: Machine) -> list[Operation]:
        """One fill."""
        return [machine.port(self.memory_type)[self.begin : self.end].zero_]


@dataclass(frozen=True, eq=False)
class Move:
    """LOAD (or STORE with ``store``) between held DRAM and a scratchpad.

    ``sram``: elements [y, x]. ``dram``: granules [y, x, parts] of the held bytes.
    """

    memory_type: MemType
    sram: Rows
    dram: Rows
    store: bool

    def bind(self, machine: Machine) -> list[Operation]:
        """One copy; it truncates int32 to int8 (STORE) or widens int8 (ACC_8BIT)."""
        inside = self.sram.view(machine.port(self.memory_type))
        outside = self.dram.view(machine.dram)
        assert inside is not None
        assert outside is not None
        outside = outside.transpose(2, 3)
        target, source = (outside, inside) if self.store else (inside, outside)
        return [partial(target.copy_, source)]


@dataclass(frozen=True, eq=False)
class SetInputs:
    """LOAD of input elements that are the same in all instances: int8 [rows, batch * block_in]."""

    sram: Rows
    value: NDArray[np.int8]

    def bind(self, machine: Machine) -> list[Operation]:
        """One broadcast copy."""
        view = self.sram.view(machine.inp.view(len(machine.inp), machine.instances, -1))
        value = torch.from_numpy(self.value).reshape(*self.sram.shape, 1, -1)
        assert view is not None
        return [partial(view.copy_, value)]


def broadcast(value: Lanes, rows: Rows, machine: Machine) -> Tensor:
    """A constant [lanes] or [n, lanes] in the shape of a view of ``rows`` of the accumulators."""
    tensor = torch.from_numpy(np.ascontiguousarray(value))
    lanes = machine.acc.shape[2]
    shape = (1,) * len(rows.shape) if value.ndim == 1 else rows.shape
    wide = tensor.reshape(-1, 1, value.shape[-1]).expand(-1, machine.instances, -1)
    return wide.reshape(*shape, machine.rows, lanes)


@dataclass(frozen=True, eq=False)
class SetAccumulators:
    """Accumulators get constants: int32 [lanes] or [rows, lanes]."""

    rows: Rows
    value: Lanes

    def bind(self, machine: Machine) -> list[Operation]:
        """One broadcast copy, or a scatter."""
        value = broadcast(self.value, self.rows, machine)
        view = self.rows.view(machine.acc)
        if view is not None:
            return [partial(view.copy_, value)]
        full = value.expand(len(self.rows), -1, -1)
        return [partial(machine.acc.index_copy_, 0, self.rows.indices(), full)]


@dataclass(frozen=True, eq=False)
class Alu:
    """acc[dst] = acc[dst] op operand; the accumulators in ``dst`` are distinct.

    ``operand``: an integer, constants [lanes] or [rows, lanes], or the accumulators that Rows name,
    in a grid of the shape of ``dst`` (none of them is written by an earlier row of this step).
    """

    op: AluOp
    dst: Rows
    operand: int | Lanes | Rows

    def bind(self, machine: Machine) -> list[Operation]:
        """In place on a view, or with a gather and a scatter where the elements are irregular."""
        view = self.dst.view(machine.acc)
        other = self._operand(machine)
        if view is not None and other is not None:
            return _alu_operations(self.op, view, other)
        return [partial(self._gathered, machine.acc, other)]

    def _operand(self, machine: Machine) -> Tensor | int | None:
        """A number or a tensor that broadcasts against the destination's view."""
        if isinstance(self.operand, int):
            return self.operand
        if isinstance(self.operand, Rows):
            return self.operand.view(machine.acc)
        return broadcast(self.operand, self.dst, machine)

    def _gathered(self, acc: Tensor, other: Tensor | int | None) -> None:
        index = self.dst.indices()
        if isinstance(self.operand, Rows):
            other = acc[self.operand.indices()]
        assert other is not None
        values = acc[index]
        for operation in _alu_operations(self.op, values, other):
            operation()
        acc[index] = values


@dataclass(frozen=True, eq=False)
class Clamp:
    """MAX ``low``, then MIN ``high``, low <= high, of the same accumulators."""

    dst: Rows
    low: int
    high: int

    def bind(self, machine: Machine) -> list[Operation]:
        """One clamp, with a gather and a scatter for irregular rows."""
        view = self.dst.view(machine.acc)
        if view is not None:
            return [partial(view.clamp_, self.low, self.high)]
        return [partial(self._gathered, machine.acc)]

    def _gathered(self, acc: Tensor) -> None:
        index = self.dst.indices()
        acc[index] = acc[index].clamp_(self.low, self.high)


def _alu_operations(op: AluOp, x: Tensor, y: Tensor | int) -> list[Operation]:
    """In place: x = x op y on int32, wrapping around; ``y`` is an integer for an immediate.

    A shift uses the low five bits of |y|; only a negative immediate shifts left.
    """
    if op == AluOp.ADD:
        return [partial(x.add_, y)]
    if op == AluOp.MUL:
        return [partial(x.mul_, y)]
    if op == AluOp.SHR:
        return [_shift(x, y)]
    if isinstance(y, int):
        return [partial(x.clamp_, max=y) if op == AluOp.MIN else partial(x.clamp_, min=y)]
    return [partial(torch.minimum if op == AluOp.MIN else torch.maximum, x, y, out=x)]


def _shift(x: Tensor, y: Tensor | int) -> Operation:
    if isinstance(y, int):
        right = y >= 0
        return partial(
            x.bitwise_right_shift_ if right else x.bitwise_left_shift_, (y if right else -y) & 31
        )
    return lambda: torch.bitwise_right_shift(x, y & 31, out=x)
