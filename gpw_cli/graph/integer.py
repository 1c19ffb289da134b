"""The integer network, as an NPU with 32-bit accumulators computes it.

    graph = quantize_graph(float_graph, ranges, cfg, fused=True)   # quantization/quantize.py
    for node in graph.nodes: ...                                   # topological order
    logits = run(graph, x)                                         # quantization/reference.py

Every tensor is int8 [C, H, W] per image, except the network's output, which may have 16 or 32 bits.
Accumulators are int32 and wrap around. A result is clipped and its low ``out_bits`` bits are
stored, as VTA's store truncates, so a rescale that does not clip (``FULL_RANGE``) stores modulo
2^bits. Real value = integer * scale; scales are bookkeeping, no node uses them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Int8, Int32, Int64
from gpw_cli.graph.frame import Binary, Ordered, Padded, Pair, Shape, Source, Unary, Windowed
from gpw_cli.graph.moves import Concat, Select, Upsample

Shift = int | Int32  # one shift per tensor, or int32 [C], one per channel
Scale = float

FULL_RANGE = (-(2**31), 2**31 - 1)  # limits of a rescale that does not clip


@dataclass(frozen=True, eq=False)
class Rescale:
    """clip((acc + 2^(n-1)) >> n, low, high); without the 2^(n-1) unless ``rounding`` and n > 0.

    ``shift``: n, one integer or int32 [C]; n < 0 shifts left, n = 0 only clips. ``>>`` is
    arithmetic and rounds down. With a ``multiplier`` m other than 1, one integer or int32 [C], it
    is NVDLA's convertor: acc * m in 64 bits, n from 0 to 31, halves rounded away from zero, clip.
    """

    shift: Shift
    rounding: bool
    low: int
    high: int
    multiplier: Shift = 1

    @property
    def clips(self) -> bool:
        """Whether the result is clipped; with ``FULL_RANGE`` the store only truncates."""
        return self.multiplies or (self.low, self.high) != FULL_RANGE

    @property
    def multiplies(self) -> bool:
        """Whether there is a multiplier besides the shift."""
        return not (isinstance(self.multiplier, int) and self.multiplier == 1)


@dataclass(frozen=True, eq=False)
class IntInput(Source):
    """The image, int8 [C, H, W]: clip(round(x / ``scale``), low, high), computed on the host."""

    scale: Scale
    low: int = -127
    high: int = 127


@dataclass(frozen=True, eq=False)
class IntConv(Unary):
    """Convolution, bias, optional shortcut, optional ReLU and rescale, all on the accumulators.

    weight int8 [O, I, KH, KW], bias int32 [O] at the accumulator's scale, without a rounding term.
    acc = conv(x, weight) + bias; acc += shortcut(residual, residual_shift); relu: max(acc, 0); out
    = rescale(acc) stored in ``out_bits`` (16 and 32: the network's output only). ``residual_shift``
    s: ``residual << s``; s < 0: (residual + 2^(-s-1)) >> -s. An array [O] of shifts is never
    negative. A linear layer is a convolution with a kernel of the size of its input.
    """

    weight: Int8
    bias: Int32
    stride: Pair
    padding: Pair  # zeros on both sides, of rows and of columns
    residual: str | None
    residual_shift: Shift
    relu: bool
    rescale: Rescale
    out_bits: int
    shape: Shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input and, if fused, the shortcut."""
        return (self.input,) if self.residual is None else (self.input, self.residual)


@dataclass(frozen=True, eq=False)
class IntAdd(Binary):
    """rescale(acc) of acc = (a << shift_a) + (b << shift_b), max(acc, 0) first when ``relu``.

    The shifts are never negative.
    """

    shift_a: int
    shift_b: int
    relu: bool
    rescale: Rescale
    shape: Shape


@dataclass(frozen=True, eq=False)
class IntRelu(Unary):
    """rescale(max(x, 0)): a ReLU that is not fused."""

    rescale: Rescale
    shape: Shape


@dataclass(frozen=True, eq=False)
class IntMaxPool(Windowed):
    """Maximum over a window; padding is -128 and never wins.

    ``after``: further rows below and columns to the right that the last windows cover.
    """

    shape: Shape
    after: Pair = (0, 0)


@dataclass(frozen=True, eq=False)
class IntAvgPool(Windowed):
    """rescale(sum over a window of k values); zero padding is counted.

    The division by k is part of the scale: output scale = input scale * 2^shift / k.
    """

    rescale: Rescale
    shape: Shape


@dataclass(frozen=True, eq=False)
class IntPad(Padded):
    """Option-A shortcut: every ``stride``-th pixel from 0, zero channels before and after."""


@dataclass(frozen=True, eq=False)
class IntConcat(Concat):
    """``Concat`` of int8 codes; all its tensors share one scale (quantization/plan.py)."""


@dataclass(frozen=True, eq=False)
class IntSelect(Select):
    """``Select`` of int8 codes."""


@dataclass(frozen=True, eq=False)
class IntUpsample(Upsample):
    """``Upsample`` of int8 codes."""


IntMove = IntConcat | IntSelect | IntUpsample
IntNode = IntInput | IntConv | IntAdd | IntRelu | IntMaxPool | IntAvgPool | IntPad | IntMove


@dataclass(frozen=True, eq=False)
class IntGraph(Ordered[IntNode]):
    """The first node is an ``IntInput``.

    ``scales``: tensor name -> real value of one unit, per tensor even where the weights have one
    scale per channel. ``mean``, ``std``: the normalisation that the input scale assumes.
    """

    scales: Mapping[str, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input(self) -> IntInput:
        """The first node."""
        first = self.nodes[0]
        assert isinstance(first, IntInput)
        return first


def wrap_int32(value: Int64) -> Int64:
    """``value`` modulo 2^32, in -2^31 .. 2^31-1, as in a 32-bit accumulator."""
    return ((value + 2**31) & (2**32 - 1)) - 2**31


def shift_right(value: Int64, shift: Shift, *, rounding: bool) -> Int64:
    """int64 [..., C, H, W] shifted right arithmetically by n (left for n < 0), rounded half up."""
    n = _per_channel(shift)
    right, left = np.maximum(n, 0), np.maximum(-n, 0)
    half = np.where(right > 0, np.left_shift(1, np.maximum(right - 1, 0)), 0) if rounding else 0
    return wrap_int32(wrap_int32(value + half) >> right << left)


def apply_rescale(acc: Int64, rescale: Rescale) -> Int64:
    """Applies ``Rescale`` to int64 accumulators [..., C, H, W] with int32 values."""
    if rescale.multiplies:
        moved = multiply_shift(acc, rescale)
    else:
        moved = shift_right(acc, rescale.shift, rounding=rescale.rounding)
    return moved.clip(rescale.low, rescale.high)


def multiply_shift(acc: Int64, rescale: Rescale) -> Int64:
    """int64 [..., C, H, W] multiplied and shifted, halves away from zero; not clipped."""
    m, n = (_per_channel(value) for value in (rescale.multiplier, rescale.shift))
    product = acc * m
    if not rescale.rounding:
        return np.asarray(product >> n, np.int64)
    half = np.where(n > 0, np.left_shift(1, np.maximum(n - 1, 0)), 0)
    return np.asarray(np.sign(product) * (np.abs(product) + half >> n), np.int64)


def _per_channel(value: Shift) -> Int64:
    """One value, or [C, 1, 1]."""
    n = np.asarray(value, np.int64)
    return n.reshape(-1, 1, 1) if n.ndim else n


def store(value: Int64, bits: int) -> Int64:
    """The low ``bits`` bits of ``value`` as a signed number, like a truncating store."""
    return ((value + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))
