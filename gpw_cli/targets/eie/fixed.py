"""EIE's 16-bit fixed point on an integer graph.

An activation is a 16-bit integer, the graph's 8-bit integer times 2^8: the same range with eight
more bits. A shared weight is a 16-bit integer with ``fraction`` bits after the binary point. A
product is 32 bits wide; it is shifted right, rounded half up, and added to a 16-bit accumulator.
The shift is the smallest one that keeps every accumulator within 16 bits whatever the activations
are, so neither the order of the additions nor what an adder does on overflow matters. (The paper
says "16-bit fixed point" and no more; rounding and shifts are our choice.)
"""

from __future__ import annotations

import math

import numpy as np

from gpw_cli.arrays import Floats, Int16, Int64

TOP = 2**15 - 1
EXTRA = 8  # bits that an activation has beyond the integer graph's
MAX_SHIFT = 30


def fraction_for(largest: float) -> int:
    """The most fraction bits that let ``largest`` fit in 16 bits; 15 for zero."""
    return math.floor(math.log2(TOP / largest)) if largest > 0 else 15


def to_fixed(values: Floats, fraction: int) -> Int16:
    """Rounded half up, clipped to 16 bits."""
    return saturated(np.floor(values * 2.0**fraction + 0.5).astype(np.int64))


def shifted(value: Int64, left: int) -> Int64:
    """``value`` * 2^left; a negative ``left`` shifts right and rounds half up."""
    if left >= 0:
        return value << left
    return (value + (1 << (-left - 1))) >> -left


def rounded(value: Floats) -> Int16:
    """Rounded half up and clipped to 16 bits, as the host stores it."""
    return saturated(np.floor(value + 0.5).astype(np.int64))


def saturated(value: Int64) -> Int16:
    """Clipped to 16 bits."""
    return value.clip(-TOP - 1, TOP).astype(np.int16)


def safe_shift(weights: Int64, bias: Floats, fraction: int, signed: bool) -> int:
    """The smallest right shift of a product that keeps every accumulator in 16 bits.

    weights int64 [O, columns]; bias float [O], of the finished sum. ``signed``: whether activations
    can be negative. The positive and the negative products of a row bound all its partial sums;
    each of them may be rounded up by one.
    """
    up, down = weights.clip(0).sum(axis=1), (-weights).clip(0).sum(axis=1)
    most = np.maximum(up, down) if not signed else up + down
    rounding = np.count_nonzero(weights, axis=1)
    for shift in range(MAX_SHIFT):
        peak = most * 2.0 ** (15 - shift) + rounding + np.abs(bias) * 2.0 ** (fraction - shift) + 1
        if peak.max(initial=0.0) <= TOP:
            return shift
    return MAX_SHIFT
