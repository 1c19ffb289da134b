"""Scales that differ by powers of two only: S = unit * 2^e.

    step = threshold / (2 ** (bits - 1) - margin)
    scale = power_of_two(step, PotRule.ceil)                       # 2^ceil(log2 step)
    scale = least_error(counts, values, step, top=127)             # the best 2^e near it

``unit`` is 1 unless the activations carry another factor: from an average pool over a window whose
size is no power of two, or from a global scale that is none. The scales of the weights then carry
the same factor.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gpw_cli.config.quantizer import PotRule
from gpw_cli.errors import UnsupportedError
from gpw_cli.quantization.observers import squared_error

BELOW, ABOVE = 3, 1  # powers of two tried below and above the ceiling
MULTIPLIER_SHIFT = 31


def power_of_two(step: float, rule: PotRule, unit: float = 1.0) -> float:
    """The smallest unit * 2^e that is at least ``step`` > 0, or the nearest in log2."""
    fraction, exponent = math.frexp(step / unit)  # fraction in [1/2, 1)
    below = fraction < math.sqrt(0.5) if rule is PotRule.nearest else fraction == 0.5
    return unit * 2.0 ** (exponent - below)


def least_error(
    counts: NDArray[np.float64],
    values: NDArray[np.float64],
    step: float,
    top: int,
    unit: float = 1.0,
) -> float:
    """The unit * 2^e near ``step`` that quantizes the magnitudes ``values`` best."""
    ceiling = power_of_two(step, PotRule.ceil, unit)
    scales = [ceiling * 2.0**e for e in range(-BELOW, ABOVE + 1)]
    errors = [squared_error(counts, values, scale, top) for scale in scales]
    return scales[int(np.argmin(errors))]


def mantissa(scale: float) -> float:
    """``scale`` divided by a power of two, in [1, 2)."""
    return 2.0 * math.frexp(scale)[0]


def log2_ratio(a: float, b: float, where: str) -> int:
    """The integer n with a = b * 2^n; UnsupportedError, naming ``where``, if there is none."""
    fraction, exponent = math.frexp(a / b)
    if abs(fraction - 0.5) > 1e-9 and abs(fraction - 1.0) > 1e-9:
        raise UnsupportedError(
            f"{where}: its scales {a:.6g} and {b:.6g} differ by no power of two, so no shift joins "
            "them (an average pool over a window that is no power of two feeds an addition)"
        )
    return exponent - 1 if abs(fraction - 0.5) <= 1e-9 else exponent


def round_half_away(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest integers, halves away from zero (C's ``round``)."""
    return (np.sign(values) * np.floor(np.abs(values) + 0.5)).astype(np.int64)


def multiplier(ratios: NDArray[np.float64], bits: int) -> tuple[NDArray[np.int32], int]:
    """Integers m [C] and a common shift n with m / 2^n nearest to ``ratios`` [C] > 0.

    The largest m fills ``bits`` - 1 bits; n is from 0 to 31 (NVDLA's shifters have 5 bits).
    Raises UnsupportedError for a ratio that is too large for ``bits``.
    """
    top = 2 ** (bits - 1) - 1
    largest = float(ratios.max())
    shift = min(math.floor(math.log2(top / largest)), MULTIPLIER_SHIFT)
    if shift < 0:
        raise UnsupportedError(f"a rescale by {largest:.6g} needs more than {bits} multiplier bits")
    return round_half_away(ratios * 2.0**shift).clip(0, top).astype(np.int32), shift
