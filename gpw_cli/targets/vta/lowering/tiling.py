"""Choosing the tile of a kernel: what fits the scratchpads and costs fewest estimated cycles.

    plan = choose(ShapedKernel(...), builder)        # rows x cols outputs, groups of channels

The estimate knows the busiest of the three modules and what the next layer has to wait for; its
constants are those of the 64-bit bus (a request 23 cycles, 8 bytes a beat, a store burst 3 cycles
an element of 16 bytes and 3 more).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.lowering.kernels import ProductKernel, Term
from gpw_cli.targets.vta.lowering.layout import Tensor
from gpw_cli.targets.vta.lowering.builder import Builder
from gpw_cli.targets.vta.spec import VtaSpec

Int64 = NDArray[np.int64]
_MAX_PAD = 15  # the padding fields have 4 bits
_REQUEST, _ISSUE, _BURST = 23, 7, 128


@dataclass(frozen=True)
class Plan:
    """``rows`` x ``cols`` output pixels of ``groups`` channel groups at a time, ``slots`` buffers."""

    rows: int
    cols: int
    groups: int
    slots: int


@dataclass(frozen=True)
class Window:
    """The input pixels of a term for one output tile, as a LOAD describes them.

    ``rows`` x ``cols`` in the scratchpad, of which ``top``, ``bottom``, ``left``, ``right`` are
    zeros; the rest begins at ``row``, ``col`` of the tensor and takes every ``step``-th row.
    """

    rows: int
    cols: int
    row: int
    col: int
    top: int
    bottom: int
    left: int
    right: int
    step: int

    @property
    def padded(self) -> bool:
        """Whether any pixel is a zero from outside."""
        return self.top + self.bottom + self.left + self.right > 0

    @property
    def pixels(self) -> int:
        """Pixels in the scratchpad."""
        return self.rows * self.cols


def extent(term: Term, rows: int, cols: int) -> tuple[int, int]:
    """Input rows and columns that ``rows`` x ``cols`` outputs read, after row skipping."""
    tall = rows if term.row_step > 1 else (rows - 1) * term.stride[0] + term.kernel[0]
    return tall, (cols - 1) * term.stride[1] + term.kernel[1]


def window(term: Term, source: Tensor, row: int, rows: int, col: int, cols: int) -> Window:
    """Of the outputs ``row`` to row + rows - 1, ``col`` to col + cols - 1."""
    tall, wide = extent(term, rows, cols)
    first_row = row * term.stride[0] - term.padding[0]
    first_col = col * term.stride[1] - term.padding[1]
    last_row = first_row + (tall - 1) * term.row_step
    return Window(
        tall,
        wide,
        max(first_row, 0),
        max(first_col, 0),
        max(-first_row, 0),
        max(last_row - source.shape[1] + 1, 0),
        max(-first_col, 0),
        max(first_col + wide - source.shape[2], 0),
        term.row_step,
    )


@dataclass(frozen=True, eq=False)
class Shaped:
    """A kernel with the tensors it reads and writes; ``counts``: a term's tiles by (out, inp) group.

    A constant term has one input group.
    """

    kernel: ProductKernel
    out: Tensor
    sources: tuple[Tensor | None, ...]
    counts: tuple[Int64, ...]


def shape(kernel: ProductKernel, tensors: dict[str, Tensor], spec: VtaSpec) -> Shaped:
    """``kernel`` with its tensors. Raises UnsupportedError for a padding VTA cannot load."""
    out = tensors[kernel.name]
    sources = tuple(tensors[term.source] if term.source else None for term in kernel.terms)
    counts = []
    for term, source in zip(kernel.terms, sources, strict=True):
        _check_padding(kernel.name, term, source.pixel(spec.block_in) if source else 1)
        inputs = source.groups if source else 1
        table = np.zeros((out.groups, inputs), np.int64)
        group = term.tiles.inp // source.pixel(spec.block_in) if source else term.tiles.inp
        np.add.at(table, (term.tiles.out // out.pixel(spec.block_out), group), 1)
        counts.append(table)
    return Shaped(kernel, out, sources, tuple(counts))


def _check_padding(name: str, term: Term, pixel: int) -> None:
    for pad, size, unit in zip(term.padding, term.kernel, (1, pixel), strict=True):
        if pad >= size > 0 and pad > 0 or pad * unit > _MAX_PAD:
            raise UnsupportedError(
                f"{name}: padding {term.padding} of kernel {term.kernel}, allowed is less than the "
                f"kernel and at most {_MAX_PAD // unit}"
            )


def choose(shaped: Shaped, builder: Builder) -> Plan:
    """The cheapest plan with two slots, or with one where nothing else fits.

    Raises UnsupportedError where not even one output pixel of one group fits.
    """
    for slots in (2, 1):
        fitting = [plan for plan in _plans(shaped, slots) if _fits(shaped, plan, builder)]
        if fitting:
            return min(fitting, key=lambda plan: estimate(shaped, plan, builder))
    spec = builder.spec
    raise UnsupportedError(
        f"{shaped.kernel.name}: one output pixel of kernel "
        f"{max(term.kernel for term in shaped.kernel.terms)} does not fit the scratchpads of "
        f"{spec.inp_depth} input, {spec.wgt_depth} weight and {spec.acc_depth} accumulator elements; "
        f"enlarge LOG_INP_BUFF_SIZE, LOG_WGT_BUFF_SIZE or LOG_ACC_BUFF_SIZE"
    )


def parts(size: int) -> list[int]:
    """ceil(size / k) for every k, without repetition."""
    return sorted({ceil(size / k) for k in range(1, size + 1)}, reverse=True)


def _plans(shaped: Shaped, slots: int) -> Iterator[Plan]:
    _, height, width = shaped.out.shape
    for cols in parts(width):
        for rows in parts(height):
            if cols < width and rows > 1 and rows * 4 > cols * 64:
                continue
            for groups in parts(shaped.out.groups):
                yield Plan(rows, cols, groups, slots)


def input_sizes(shaped: Shaped, plan: Plan, spec: VtaSpec) -> list[int]:
    """Input elements of one group, a term; 0 for a constant term."""
    return [
        int(np.prod(extent(term, plan.rows, plan.cols))) * source.pixel(spec.block_in)
        if source
        else 0
        for term, source in zip(shaped.kernel.terms, shaped.sources, strict=True)
    ]


def _fits(shaped: Shaped, plan: Plan, builder: Builder) -> bool:
    outputs = plan.rows * plan.cols * plan.groups * shaped.out.pixel(builder.spec.block_out)
    return (
        outputs <= builder.acc.capacity(plan.slots)
        and max(input_sizes(shaped, plan, builder.spec), default=0)
        <= builder.inp.capacity(plan.slots)
        and builder.wgt.capacity(plan.slots) > 0
    )


def estimate(shaped: Shaped, plan: Plan, builder: Builder) -> float:
    """Cycles of the kernel under ``plan``: the busiest module and the wait behind it."""
    spec, out = builder.spec, shaped.out
    _, height, width = out.shape
    tiles = ceil(height / plan.rows) * ceil(width / plan.cols)
    pixels, area = plan.rows * plan.cols, height * width
    edge = ceil(height / plan.rows) * plan.rows * ceil(width / plan.cols) * plan.cols / area
    sizes = input_sizes(shaped, plan, spec)
    beat, weight_beats = spec.inp_elem_bytes / 8, spec.wgt_elem_bytes / 8
    total = sum(int(count.sum()) for count in shaped.counts)
    chunks = range(0, out.groups, plan.groups)
    compute = load = first = 0.0
    for begin in chunks:
        some = [count[begin : begin + plan.groups] for count in shaped.counts]
        kept = int(sum(count.sum() for count in some))
        needed = [int(count.any(axis=0).sum()) for count in some]
        elements = sum(size * many for size, many in zip(sizes, needed, strict=True))
        requests = sum(many for size, many in zip(sizes, needed, strict=True) if size)
        bundles = max(1, ceil(elements / builder.inp.capacity(plan.slots)))
        once = total <= builder.wgt.capacity(plan.slots) or (
            kept <= builder.wgt.capacity(plan.slots)
        )
        here = requests * _REQUEST + elements * beat
        load += tiles * here + (1 if once else tiles) * (kept * weight_beats + _REQUEST * bundles)
        first = max(first, here / bundles)
        compute += tiles * _ISSUE * (len(some) + bundles) + edge * area * kept
    outputs = out.groups * out.pixel(spec.block_out) * edge * area
    compute += outputs * _step_cycles(shaped) + tiles * len(chunks) * _ISSUE * _steps(shaped)
    burst = max(1, _BURST // spec.out_elem_bytes)
    store = outputs * out.planes * (3 * spec.out_elem_bytes / 16 + 3 / burst)
    per_task = store / (tiles * len(chunks))
    wait = per_task + first + compute / (tiles * len(chunks)) / 8
    overlap = 0.1 if tiles >= 4 and len(chunks) == 1 else 0.5 if tiles == 3 else 1.0
    del pixels
    return max(compute, load, store) + wait * overlap


def _steps(shaped: Shaped) -> int:
    return 1 + sum(len(stage.steps) for stage in shaped.kernel.stages)


def _step_cycles(shaped: Shaped) -> int:
    """Reset and ALU cycles of one accumulator."""
    steps = [step for stage in shaped.kernel.stages for step in stage.steps]
    return 1 + sum(1 if isinstance(step.operand, int) else 2 for step in steps)
