"""The plan step that computes GEMM micro-ops: gather the inputs, one int8 product, accumulate.

Uses ``torch._int_mm`` (int8 x int8 -> int32) where it is exact on this CPU, else float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.arrays import Int64
from gpw_cli.targets.vta.functional.machine import Machine
from gpw_cli.targets.vta.functional.steps import Lanes, Operation, broadcast
from gpw_cli.targets.vta.functional.strided import Rows

_LEFT_BYTES = 4 << 20  # gathered inputs of one product; a larger one is cut into pieces
_FEW_ROWS = 512  # elements of one copy below which a gather by index is faster
_CHUNK = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK_BYTES = 16  # of the widest dtype that copies whole input elements (complex128)


@dataclass(frozen=True, eq=False)
class Block:
    """One output block of a product.

    ``dst``: int64 [positions]. ``start``: constants [lanes] that the sum starts from; None: it adds
    to the accumulators' contents.
    """

    dst: Int64
    start: Lanes | None


@dataclass(frozen=True, eq=False)
class Matmul:
    """acc[blocks[b].dst] += inp[src] x weight[b]^T.

    ``src``: int64 [positions, K]. ``weight``: int8 [K * block_in, blocks * block_out].
    """

    src: Int64
    weight: NDArray[np.int8]
    blocks: tuple[Block, ...]

    def bind(self, machine: Machine) -> list[Operation]:
        """Gathers, multiplies and accumulates as many positions at once as the buffer holds."""
        per_position = self.weight.shape[0] * machine.rows
        operations: list[Operation] = []
        for piece in self._pieces(max(1, _LEFT_BYTES // per_position)):
            operations += self._bind_piece(machine, piece)
        return operations

    def _pieces(self, most: int) -> Iterator[slice]:
        """Runs of at most ``most`` positions, whole grid lines where possible."""
        line = Rows(self.src[:, 0]).shape[-1]
        step = most - most % line if most >= line else most
        for begin in range(0, len(self.src), step):
            yield slice(begin, min(begin + step, len(self.src)))

    def _bind_piece(self, machine: Machine, piece: slice) -> list[Operation]:
        src = self.src[piece]
        positions, depth, width = len(src), self.weight.shape[0], self.weight.shape[1]
        left = machine.scratch(positions * machine.rows * depth, torch.int8)
        gather = _gather(machine, src, left.view(positions, machine.rows, src.shape[1], -1))
        product = left.view(positions * machine.rows, depth)
        weight = torch.from_numpy(self.weight)
        if len(self.blocks) == 1:
            target = Rows(self.blocks[0].dst[piece])
            if self.blocks[0].start is not None and target.contiguous:
                begin = int(target.index[0])
                direct = machine.acc[begin : begin + positions].view(-1, width)
                multiply = partial(_multiplier(), product, weight, out=direct)
                return [*gather, multiply, *_add_start(machine, target, self.blocks[0].start)]
        result = machine.scratch(positions * machine.rows * width, torch.int32)
        multiply = partial(_multiplier(), product, weight, out=result.view(-1, width))
        parts = result.view(positions, machine.rows, len(self.blocks), -1)
        operations: list[Operation] = [*gather, multiply]
        for number, block in enumerate(self.blocks):
            operations.append(
                _accumulate(machine, Rows(block.dst[piece]), parts[:, :, number], block.start)
            )
        return operations


def _gather(machine: Machine, src: Int64, left: Tensor) -> list[Operation]:
    """Copies inp[src] to ``left`` int8 [positions, rows, K, block_in]."""
    inp, target = _chunks(machine.inp), _chunks(left)
    operations: list[Operation] = []
    for columns, positions in _columns(src):
        rows = Rows(positions)
        if rows.regular and len(positions) * machine.rows >= _FEW_ROWS:
            operations += [_copy(target[:, :, k], rows, inp, int(src[0, k])) for k in columns]
        else:
            operations.append(_gather_by_index(target, inp, src, columns))
    return operations


def _columns(src: Int64) -> Iterator[tuple[Int64, Int64]]:
    """(columns, positions [P]): the columns k with src[p, k] = src[0, k] + positions[p]."""
    kinds, kind = np.unique(src - src[:1], axis=1, return_inverse=True)
    for number in range(kinds.shape[1]):
        yield np.flatnonzero(kind.reshape(-1) == number), kinds[:, number]


def _gather_by_index(target: Tensor, inp: Tensor, src: Int64, columns: Int64) -> Operation:
    index = torch.from_numpy(np.ascontiguousarray(src[:, columns]).reshape(-1))
    where = torch.from_numpy(columns)
    shape = (len(src), len(columns), *inp.shape[1:])

    def gather() -> None:
        rows = inp.index_select(0, index).view(shape).transpose(1, 2)
        target.index_copy_(2, where, rows)

    return gather


def _copy(target: Tensor, rows: Rows, inp: Tensor, offset: int) -> Operation:
    """Copies inp[rows + offset] to ``target`` [len(rows), rows of a batch, chunks]."""
    source = rows.view(inp, offset)
    assert source is not None
    return partial(target.view(*rows.shape, *target.shape[1:]).copy_, source)


def _chunks(tensor: Tensor) -> Tensor:
    """int8 [..., block_in] as [..., chunks] of the widest dtype that fits, for fast copies."""
    size = tensor.shape[-1]
    if size >= _CHUNK_BYTES:
        return tensor.view(torch.complex128)
    return tensor.view(_CHUNK[size])


def _add_start(machine: Machine, rows: Rows, start: Lanes) -> list[Operation]:
    if not start.any():
        return []
    view = rows.view(machine.acc)
    assert view is not None
    return [partial(view.add_, broadcast(start, rows, machine))]


def _accumulate(machine: Machine, rows: Rows, part: Tensor, start: Lanes | None) -> Operation:
    """Adds ``part`` int32 [positions, rows, block_out] to the accumulators, or stores it there."""
    view = rows.view(machine.acc)
    if view is None:
        index = rows.indices()
        if start is None:
            return partial(machine.acc.index_add_, 0, index, part)
        value = broadcast(start, rows, machine).reshape(1, machine.rows, -1)
        return lambda: machine.acc.index_copy_(0, index, part + value)
    shaped = part.view(*rows.shape, *part.shape[1:])
    if start is None:
        return partial(view.add_, shaped)
    if not start.any():
        return partial(view.copy_, shaped)
    return partial(torch.add, shaped, broadcast(start, rows, machine), out=view)


@cache
def _multiplier() -> Callable[..., object]:
    """``torch._int_mm`` if it is exact here, else a product in float64."""
    left = torch.full((32, 512), -128, dtype=torch.int8)
    right = torch.full((512, 16), -128, dtype=torch.int8)
    left[1], right[:, 1] = 127, 127
    try:
        exact = torch._int_mm(left, right)
    except RuntimeError:
        return _wide_product
    wanted = left.double() @ right.double()
    return torch._int_mm if torch.equal(exact.double(), wanted) else _wide_product


def _wide_product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """The product in float64, where every sum is exact, wrapped around to int32."""
    out.copy_((left.double() @ right.double()).long())
