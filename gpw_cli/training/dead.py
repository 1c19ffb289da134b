"""Convolutions that a mask removed whole: their output is known, so it is not computed.

    with skip_dead(model, masks):
        ...                      # forward and backward of such layers cost nothing

Forward values are the same bits as with the zero weights; no gradient flows through (it would be
zero). At 90 % block sparsity 12 of ResNet-20's 18 pruned layers are such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def skip_dead(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Within the block, convolutions whose whole mask is False return zeros; yields their names."""
    dead = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and (mask := masks.get(f"{name}.weight")) is not None
        and not bool(mask.any())
    }
    for module in dead.values():
        # an instance attribute hides the method; deleting it below brings the method back
        module.forward = partial(_constant, module)  # type: ignore[method-assign]
    try:
        yield list(dead)
    finally:
        for module in dead.values():
            del module.forward


def _constant(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What ``conv`` with zero weights gives for x [N, I, H, W]: zeros, or its bias."""
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    size = [_length(conv, x.shape[2 + axis], axis) for axis in (0, 1)]
    shape = (len(x), conv.out_channels, *size)
    out = torch.zeros(shape, dtype=dtype, device=x.device).contiguous(
        memory_format=torch.channels_last
    )
    return out if conv.bias is None else out + conv.bias.to(dtype)[:, None, None]


def _length(conv: nn.Conv2d, length: int, axis: int) -> int:
    if conv.padding == "same":
        return length
    padding = 0 if isinstance(conv.padding, str) else int(conv.padding[axis])  # str: "valid"
    reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
    return (length + 2 * padding - reach) // conv.stride[axis] + 1
