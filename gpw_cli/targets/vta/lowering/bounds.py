"""The values that a tensor's channels can take.

acc = conv_bounds(weight, source, padded=True)         # of a convolution's accumulators
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpw_cli.arrays import Bools, Int64

_LOW, _HIGH = -(2**31), 2**31 - 1


@dataclass(frozen=True, eq=False)
class Bounds:
    """The smallest and the largest possible value of each channel, int64 [C]."""

    low: Int64
    high: Int64

    @property
    def overflow(self) -> bool:
        """Whether a value may exceed int32."""
        return bool((self.low < _LOW).any() or (self.high > _HIGH).any())

    @property
    def zero(self) -> Bools:
        """The channels that are always zero, bool [C]."""
        nothing: Bools = (self.low == 0) & (self.high == 0)
        return nothing

    def wrapped(self) -> Bounds:
        """The bounds after wrapping around to int32."""
        if not self.overflow:
            return self
        return Bounds(np.full_like(self.low, _LOW), np.full_like(self.high, _HIGH))

    def plus(self, other: Bounds | Int64) -> Bounds:
        """The bounds of a sum, without wrapping."""
        if isinstance(other, Bounds):
            return Bounds(self.low + other.low, self.high + other.high)
        return Bounds(self.low + other, self.high + other)

    def shifted(self, right: Int64) -> Bounds:
        """The bounds of ``value >> right`` (negative: left), without wrapping."""
        down, up = np.maximum(right, 0), np.maximum(-right, 0)
        return Bounds(self.low >> down << up, self.high >> down << up)

    def clipped(self, low: int, high: int) -> Bounds:
        """The bounds of clipped values."""
        return Bounds(self.low.clip(low, high), self.high.clip(low, high))


def any_int8(count: int) -> Bounds:
    """The bounds of int8 [count, ...]."""
    return Bounds(np.full(count, -128, np.int64), np.full(count, 127, np.int64))


def conv_bounds(weight: Int64, source: Bounds, *, padded: bool) -> Bounds:
    """The bounds of a convolution with ``weight`` [O, I, KH, KW], without wrapping."""
    low = np.minimum(source.low, 0) if padded else source.low
    high = np.maximum(source.high, 0) if padded else source.high
    plus = np.maximum(weight, 0).sum(axis=(2, 3))
    minus = np.minimum(weight, 0).sum(axis=(2, 3))
    return Bounds(plus @ low + minus @ high, plus @ high + minus @ low)


def stored(bounds: Bounds, bits: int) -> Bounds:
    """The bounds after the truncating store: unchanged if they fit, else those of ``bits`` bits."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    fits = (bounds.low >= low).all() and (bounds.high <= high).all()
    full = Bounds(np.full_like(bounds.low, low), np.full_like(bounds.high, high))
    return bounds if fits else full
