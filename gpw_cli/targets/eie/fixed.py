"""EIE's 16-bit fixed point: where the point of a tensor stands, and what rounding does.

An integer x with ``fraction`` bits stands for x / 2^fraction. A product of a weight and an
activation is 32 bits wide; it is shifted right to the fraction of its result, rounded half up, and
added to a 16-bit accumulator that wraps around. (The paper says "16-bit fixed point" and no more;
rounding and wrapping are our choice. With wrapping the order of additions does not matter: a sum
that fits in the end is right, whatever it was in between.)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Int16 = NDArray[np.int16]
Int64 = NDArray[np.int64]

TOP = 2**15 - 1
GUARD = 2.0  # room above the largest value that calibration saw
MAX_SHIFT = 30


def fraction_for(largest: float, guard: float = 1.0) -> int:
    """Most fraction bits with which ``guard * largest`` still fits; 15 for zero."""
    return math.floor(math.log2(TOP / (guard * largest))) if largest > 0 else 15


def to_fixed(values: NDArray[np.floating], fraction: int) -> Int16:
    """Rounded half up, clipped to 16 bits."""
    scaled = np.floor(np.asarray(values, np.float64) * 2.0**fraction + 0.5)
    return scaled.clip(-TOP - 1, TOP).astype(np.int16)


def shifted(value: Int64, shift: int) -> Int64:
    """Divided by 2^shift and rounded half up; multiplied for a negative shift."""
    if shift <= 0:
        return value << -shift
    return (value + (1 << (shift - 1))) >> shift


def saturated(value: Int64) -> Int16:
    """Clipped to 16 bits."""
    return value.clip(-TOP - 1, TOP).astype(np.int16)
