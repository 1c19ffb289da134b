"""Integer convolutions as one exact matrix product, for the reference executor.

    weights = conv_weights(node)                # once per network
    y = conv(node, weights, x, shortcut)        # int8 [N, H, W, C] -> [N, OH, OW, O]

The window of every output pixel is gathered, then multiplied (gpw_cli/quantization/matmul.py).
Pixels of up to 16 bytes are moved as one number, five times as fast as byte by byte; channels are
padded with zeros to make this possible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gpw_cli.graph.frame import Pair, kernel_positions
from gpw_cli.graph.integer import IntConv, Rescale, Shift
from gpw_cli.quantization.matmul import int8_matmul
from gpw_cli.quantization.rescaling import finish

# bytes of a pixel -> the type that it is moved as
WIDE = {
    1: torch.int8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
    16: torch.complex128,
}
# output bits -> the type that stores them
STORED = {8: torch.int8, 16: torch.int16, 32: torch.int32}


@dataclass(frozen=True, eq=False)
class ConvWeights:
    """The weights of a convolution as a matrix, and the epilogue after the product.

    ``matrix``: int8 [KH*KW*channels, O]; ``channels``: of the input, with padding; ``bound``: on
    the magnitude of partial sums. ``bias`` may include the rounding term of ``rescale``.
    """

    matrix: Tensor
    channels: int
    bound: int
    bias: Tensor
    rescale: Rescale
    relu: bool


def conv_weights(node: IntConv) -> ConvWeights:
    """The weights of ``node``, with zero channels added to fill the type that moves a pixel."""
    out, channels, high, wide = node.weight.shape
    most = next((size for size in WIDE if size >= channels), max(WIDE))
    padded = channels if (high, wide) == (1, 1) else channels + -channels % most
    weight = np.pad(node.weight, ((0, 0), (0, padded - channels), (0, 0), (0, 0)))
    matrix = torch.from_numpy(weight).permute(2, 3, 1, 0).reshape(-1, out).contiguous()
    bound = 128 * int(np.abs(node.weight.astype(np.int64)).sum((1, 2, 3)).max())
    return ConvWeights(matrix, padded, bound, *_shortened(node))


def _shortened(node: IntConv) -> tuple[Tensor, Rescale, bool]:
    """Bias, rescale and ReLU that give the results of ``node`` in fewer passes.

    The rounding term of a right shift is added with the bias. A ReLU is left out if the clip starts
    at 0 or above: shifting keeps the order, and 0 stays 0.
    """
    bias, rescale = torch.from_numpy(node.bias), node.rescale
    shift = rescale.shift
    if rescale.multiplies or isinstance(shift, np.ndarray) or shift < 0:
        return bias, rescale, node.relu
    if node.relu and not (rescale.clips and rescale.low >= 0):
        return bias, rescale, True
    half = 1 << (shift - 1) if rescale.rounding and shift else 0
    return bias + half, replace(rescale, rounding=False), False


def conv(node: IntConv, weights: ConvWeights, x: Tensor, residual: Tensor | None) -> Tensor:
    """The output [N, OH, OW, O] of ``node`` for int8 ``x`` [N, H, W, C] and its shortcut."""
    acc = _accumulate(node, weights, x)
    acc += weights.bias
    if residual is not None:
        _add_residual(acc, residual, node.residual_shift)
    return finish(acc, weights.rescale, weights.relu, STORED[node.out_bits])


def _accumulate(node: IntConv, weights: ConvWeights, x: Tensor) -> Tensor:
    """The convolution without bias: int32 [N, OH, OW, O]."""
    if weights.channels > x.shape[3]:
        x = F.pad(x, (0, weights.channels - x.shape[3]))
    columns = _columns(x, (node.weight.shape[2], node.weight.shape[3]), node.stride, node.padding)
    depth, out = weights.matrix.shape
    acc = int8_matmul(columns.reshape(-1, depth), weights.matrix, weights.bound)
    return acc.reshape(*columns.shape[:3], out)


def _columns(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The window of each output pixel, row by row: int8 [N, OH, OW, KH*KW*C]."""
    if kernel == (1, 1) and padding == (0, 0):
        return x[:, :: stride[0], :: stride[1]].contiguous()
    pixel = next((wide for size, wide in reversed(WIDE.items()) if x.shape[3] % size == 0))
    views = kernel_views(x.contiguous().view(pixel), kernel, stride, padding, 0)
    return torch.cat(views, dim=3).view(torch.int8)


def kernel_views(
    x: Tensor,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    fill: int,
) -> list[Tensor]:
    """A view [N, OH, OW, C] of ``x``, padded with ``fill``, for each kernel position."""
    around = (0, 0, padding[1], padding[1], padding[0], padding[0])
    x = F.pad(x, around, value=fill) if any(padding) else x
    size = (x.shape[1], x.shape[2])
    return [x[:, rows, columns] for rows, columns in kernel_positions(size, kernel, stride)]


def _add_residual(acc: Tensor, value: Tensor, shift: Shift) -> None:
    """Adds a shortcut int8 [..., C] at the accumulator's scale to int32 [..., C]."""
    if isinstance(shift, np.ndarray):
        acc += value.to(torch.int32) << torch.from_numpy(shift)
    elif 0 <= shift < 31:
        acc.add_(value, alpha=1 << shift)
    elif shift > 0:
        acc += value.to(torch.int32) << shift
    else:
        acc += (value.to(torch.int32) + (1 << (-shift - 1))) >> -shift
