"""The group mask of a layer as text, for results files.

text = kept_bits(kept)            # "ff80": a bit per group in C order, high bit first
from_bits(text, kept.shape)       # the same array
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gpw_cli.arrays import Bools
from gpw_cli.errors import UsageError


def kept_bits(kept: Bools) -> str:
    """The bits of the mask as lower-case hex, padded with zeros to a whole byte."""
    return np.packbits(kept.ravel()).tobytes().hex()


def from_bits(text: str, grid: Sequence[int]) -> Bools:
    """The bool array of shape ``grid``; UsageError if ``text`` is not hex of that length."""
    count = math.prod(grid)
    try:
        packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    except ValueError:
        packed = None
    if packed is None or packed.size != -(-count // 8):
        raise UsageError(
            f"mask text {text[:16]!r}... does not fit the group grid {list(grid)}: expected "
            f"{-(-count // 8) * 2} hex digits; run the sweep again to rewrite its results"
        )
    return np.unpackbits(packed, count=count).astype(np.bool_).reshape(tuple(grid))
