"""ReLU and rescale of accumulator tensors, as ``graph.integer.Rescale`` defines it.

    stored = finish(acc, rescale, relu=True, stored=torch.int8)

Accumulators are changed in place, because memory bounds the speed of these passes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpw_cli.graph.integer import Rescale


def finish(acc: Tensor, rescale: Rescale, relu: bool, stored: torch.dtype) -> Tensor:
    """ReLU (if ``relu``) and rescale of int32 or int16 [..., C], cut to the type ``stored``."""
    if relu:
        acc.clamp_(min=0)
    if rescale.multiplies:
        return _multiply(acc, rescale).clamp_(rescale.low, rescale.high).to(stored)
    if isinstance(rescale.shift, np.ndarray):
        _shift_channels(acc, torch.from_numpy(rescale.shift), rescale.rounding)
    elif rescale.shift > 0:
        if rescale.rounding:
            acc += 1 << (rescale.shift - 1)
        acc >>= rescale.shift
    else:
        acc <<= -rescale.shift
    if rescale.clips:
        acc.clamp_(rescale.low, rescale.high)
    return acc.to(stored)


def _multiply(acc: Tensor, rescale: Rescale) -> Tensor:
    """int32 [..., C] -> int64 [..., C]: acc * m >> n, halves rounded away from zero."""
    m, n = (torch.as_tensor(value).long() for value in (rescale.multiplier, rescale.shift))
    product = acc.long() * m
    if not rescale.rounding:
        return product >> n
    half = torch.where(n > 0, torch.ones_like(n) << (n - 1).clamp(min=0), 0)
    return product.sign() * (product.abs() + half >> n)


def _shift_channels(acc: Tensor, shift: Tensor, rounding: bool) -> None:
    right = shift.clamp(min=0)
    if rounding:
        one = torch.ones_like(right)
        acc += torch.where(right > 0, one << (right - 1).clamp(min=0), 0).to(torch.int32)
    acc >>= right
    acc <<= (-shift).clamp(min=0)


def holding(most: int, rescale: Rescale) -> torch.dtype:
    """int16 where ``finish`` never leaves it on accumulators up to ``most``, else int32."""
    shift = rescale.shift
    if rescale.multiplies or isinstance(shift, np.ndarray) or abs(shift) > 14:
        return torch.int32
    largest = max(most + (1 << max(shift, 0)), most << max(-shift, 0))
    clipped = not rescale.clips or (rescale.low >= -(2**15) and rescale.high < 2**15)
    return torch.int16 if largest < 2**15 and clipped else torch.int32
