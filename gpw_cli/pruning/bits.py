"""A layer's group mask as text, for results files.

text = kept_bits(kept)            # "ff80": one bit a group in C order, high bit first
from_bits(text, kept.shape)       # the same array
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gpw_cli.errors import UsageError
from gpw_cli.pruning.groups import Bools


def kept_bits(kept: Bools) -> str:
    """Lower-case hex of the mask's bits; the last byte is filled with zeros."""
    return np.packbits(kept.ravel()).tobytes().hex()


def from_bits(text: str, grid: Sequence[int]) -> Bools:
    """The bool array of shape ``grid``; UsageError where ``text`` is no hex of its length."""
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
