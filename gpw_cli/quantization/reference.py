"""The integer network executed exactly, many pictures at once: what the NPU's program must equal.

    x = quantize_input(graph, normalise(pixels, graph.mean, graph.std))   # int8 [N, C, H, W]
    logits = run(graph, x)                                                # int32 [N, classes]
    share = accuracy(graph, pictures.test)                                # of a whole split

Inside, tensors are int8 [N, H, W, C]: a convolution is a gather of contiguous rows and one exact
matrix product (gpw_cli/quantization/matmul.py).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.data.pictures import Split, normalise
from gpw_cli.graph import integer
from gpw_cli.graph.frame import kernel_positions
from gpw_cli.graph.integer import Int8, Int32, IntGraph, IntNode, Rescale, Shift
from gpw_cli.graph.integer_moves import IntConcat, IntSelect, IntUpsample
from gpw_cli.quantization.matmul import int8_matmul

BATCH = 64  # pictures at once: a layer's accumulators stay in cache
STORED = {8: torch.int8, 16: torch.int16, 32: torch.int32}


def quantize_input(graph: IntGraph, x: Tensor | NDArray[np.float32]) -> Int8:
    """int8 [N, C, H, W] of normalised pictures [N, C, H, W]: clip(round(x / scale))."""
    source = graph.input
    scaled = torch.as_tensor(x).float() * (1.0 / source.scale)
    rounded = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
    codes = rounded.clamp(source.low, source.high).to(torch.int8)
    return codes.contiguous().numpy()


def run(graph: IntGraph, x: Int8) -> Int32:
    """Logits int32 [N, classes] of quantized pictures int8 [N, C, H, W]."""
    parts = [_execute(graph, x[i : i + BATCH])[graph.output] for i in range(0, len(x), BATCH)]
    logits = torch.cat([_channels_first(part).flatten(1) for part in parts])
    return logits.to(torch.int32).numpy()


def run_all(graph: IntGraph, x: Int8) -> dict[str, NDArray[np.signedinteger]]:
    """Every tensor by name, [N, C, H, W], int8 but for the output (int8, int16 or int32)."""
    tensors = _execute(graph, x, keep=True)
    return {name: _channels_first(value).contiguous().numpy() for name, value in tensors.items()}


def accuracy(graph: IntGraph, split: Split, batch: int = 512) -> float:
    """Share of ``split`` whose first largest logit is the label, in 0..1."""
    right = 0
    for start in range(0, len(split), batch):
        pixels = split.images[start : start + batch]
        logits = run(graph, quantize_input(graph, normalise(pixels, graph.mean, graph.std)))
        labels = split.labels[start : start + batch].numpy()
        right += int((logits.argmax(1) == labels).sum())
    return right / len(split)


def _execute(graph: IntGraph, x: Int8, keep: bool = False) -> dict[str, Tensor]:
    """Tensors [N, H, W, C] by name: all of them, or those still needed at the end."""
    last = {name: node.name for node in graph.nodes for name in node.inputs}
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        if isinstance(node, integer.IntInput):
            pixels = torch.from_numpy(np.require(x, np.int8, ["C", "W"]))
            tensors[node.name] = pixels.permute(0, 2, 3, 1).contiguous()
            continue
        tensors[node.name] = STEPS[type(node)](node, tensors)
        for name in {n for n in node.inputs if last[n] == node.name and not keep}:
            del tensors[name]
    return tensors


def _conv(node: integer.IntConv, tensors: dict[str, Tensor]) -> Tensor:
    acc = _accumulate(node, tensors[node.input])
    acc += torch.from_numpy(node.bias)
    if node.residual is not None:
        acc += _residual(tensors[node.residual].to(torch.int32), node.residual_shift)
    return _finish(acc, node.rescale, node.relu, STORED[node.out_bits])


def _accumulate(node: integer.IntConv, x: Tensor) -> Tensor:
    """int32 [N, OH, OW, O]: the convolution without bias."""
    out, _, high, wide = node.weight.shape
    columns = _columns(x, (high, wide), node.stride, node.padding)
    matrix = torch.from_numpy(node.weight).permute(2, 3, 1, 0).reshape(-1, out).contiguous()
    bound = 128 * int(np.abs(node.weight.astype(np.int64)).sum((1, 2, 3)).max())
    acc = int8_matmul(columns.reshape(-1, matrix.shape[0]), matrix, bound)
    return acc.reshape(*columns.shape[:3], out)


def _columns(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """int8 [N, OH, OW, KH*KW*C]: each output pixel's window, row by row."""
    if kernel == (1, 1) and padding == (0, 0):
        return x[:, :: stride[0], :: stride[1]].contiguous()
    return torch.cat(_window(x, kernel, stride, padding, 0), dim=3)


def _window(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    fill: int,
) -> list[Tensor]:
    """One [N, OH, OW, C] view a kernel position, of ``x`` with ``fill`` around it."""
    around = (0, 0, padding[1], padding[1], padding[0], padding[0])
    x = F.pad(x, around, value=fill) if any(padding) else x
    size = (x.shape[1], x.shape[2])
    return [x[:, rows, columns] for rows, columns in kernel_positions(size, kernel, stride)]


def _residual(value: Tensor, shift: Shift) -> Tensor:
    """int32 [..., C] at the accumulator's scale."""
    if isinstance(shift, np.ndarray):
        return value << torch.from_numpy(shift)
    if shift >= 0:
        return value << shift
    return (value + (1 << (-shift - 1))) >> -shift


def _finish(acc: Tensor, rescale: Rescale, relu: bool, stored: torch.dtype) -> Tensor:
    """ReLU and rescale of int32 [..., C], in place, stored as the low bits."""
    if relu:
        acc.clamp_(min=0)
    if rescale.multiplies:
        return _multiply(acc, rescale).clamp_(rescale.low, rescale.high).to(stored)
    if isinstance(rescale.shift, np.ndarray):
        _shift_channels(acc, torch.from_numpy(rescale.shift), rescale.rounding)
    elif rescale.shift > 0:
        acc += (1 << (rescale.shift - 1)) if rescale.rounding else 0
        acc >>= rescale.shift
    else:
        acc <<= -rescale.shift
    if rescale.clips:
        acc.clamp_(rescale.low, rescale.high)
    return acc.to(stored)


def _multiply(acc: Tensor, rescale: Rescale) -> Tensor:
    """int64 [..., C] of int32 [..., C]: acc * m >> n, halves away from zero."""
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


def _add(node: integer.IntAdd, tensors: dict[str, Tensor]) -> Tensor:
    acc = tensors[node.a].to(torch.int32) << node.shift_a
    acc += tensors[node.b].to(torch.int32) << node.shift_b
    return _finish(acc, node.rescale, node.relu, torch.int8)


def _relu(node: integer.IntRelu, tensors: dict[str, Tensor]) -> Tensor:
    return _finish(tensors[node.input].to(torch.int32), node.rescale, True, torch.int8)


def _max_pool(node: integer.IntMaxPool, tensors: dict[str, Tensor]) -> Tensor:
    x = F.pad(tensors[node.input], (0, 0, 0, node.after[1], 0, node.after[0]), value=-128)
    views = _window(x, node.kernel, node.stride, node.padding, -128)
    result = views[0].clone()
    for view in views[1:]:
        torch.maximum(result, view, out=result)
    return result


def _avg_pool(node: integer.IntAvgPool, tensors: dict[str, Tensor]) -> Tensor:
    views = _window(tensors[node.input], node.kernel, node.stride, node.padding, 0)
    acc = views[0].to(torch.int32)
    for view in views[1:]:
        acc += view
    return _finish(acc, node.rescale, False, torch.int8)


def _pad(node: integer.IntPad, tensors: dict[str, Tensor]) -> Tensor:
    sampled = tensors[node.input][:, :: node.stride[0], :: node.stride[1]]
    return F.pad(sampled, (node.before, node.after))


def _concat(node: IntConcat, tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[part] for part in node.parts], -1)


def _select(node: IntSelect, tensors: dict[str, Tensor]) -> Tensor:
    return tensors[node.input][..., torch.from_numpy(node.channels)]


def _upsample(node: IntUpsample, tensors: dict[str, Tensor]) -> Tensor:
    down, right = node.factor
    return tensors[node.input].repeat_interleave(down, 1).repeat_interleave(right, 2)


def _channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2)


STEPS: dict[type[IntNode], Callable[..., Tensor]] = {
    integer.IntConv: _conv,
    integer.IntAdd: _add,
    integer.IntRelu: _relu,
    integer.IntMaxPool: _max_pool,
    integer.IntAvgPool: _avg_pool,
    integer.IntPad: _pad,
    IntConcat: _concat,
    IntSelect: _select,
    IntUpsample: _upsample,
}
