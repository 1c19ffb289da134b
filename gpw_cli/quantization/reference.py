"""The integer reference executor: exact results that the NPU's program must reproduce.

    x = quantize_input(graph, normalise(pixels, graph.mean, graph.std))   # int8 [N, C, H, W]
    logits = run(graph, x)                                                # int32 [N, classes]
    logits = split_logits(graph, images.test)                           # of a whole split

Internally, tensors are int8 [N, H, W, C]. A convolution gathers whole pixels and computes one exact
matrix product (gpw_cli/quantization/matmul.py). Pixels of up to 16 bytes are moved as one number,
five times as fast as byte by byte; channels are padded with zeros to make this possible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.arrays import Int8, Int32
from gpw_cli.data.images import Split, normalise
from gpw_cli.graph import integer
from gpw_cli.graph.frame import kernel_positions
from gpw_cli.graph.integer import (
    IntConcat,
    IntGraph,
    IntNode,
    IntSelect,
    IntUpsample,
    Rescale,
    Shift,
)
from gpw_cli.quantization.matmul import int8_matmul
from gpw_cli.threads import each

BATCH = 16  # images at once: more do not stay in the L2 cache, fewer are too many calls
# bytes of a pixel -> type that moves them
WIDE = {
    1: torch.int8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
    16: torch.complex128,
}
INPUT = ""  # name of the quantized input images; no node has it
STORED = {8: torch.int8, 16: torch.int16, 32: torch.int32}


def quantize_input(graph: IntGraph, x: Tensor | NDArray[np.float32]) -> Int8:
    """int8 [N, C, H, W] of normalised images [N, C, H, W]: clip(round(x / scale))."""
    source = graph.input
    scaled = torch.as_tensor(x).float() * (1.0 / source.scale)
    rounded = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
    codes = rounded.clamp(source.low, source.high).to(torch.int8)
    return codes.contiguous().numpy()


def run(graph: IntGraph, x: Int8) -> Int32:
    """Logits int32 [N, classes] of quantized images int8 [N, C, H, W]."""
    calls = _calls(graph)

    def logits(batch: Int8) -> Tensor:
        return _channels_first(_execute(calls, batch)[graph.output]).flatten(1)

    parts = each(logits, [x[i : i + BATCH] for i in range(0, len(x), BATCH)])
    return torch.cat(parts).to(torch.int32).numpy()


def run_all(graph: IntGraph, x: Int8) -> dict[str, NDArray[np.signedinteger]]:
    """All tensors [N, C, H, W] by name: int8, the output int8, int16 or int32."""
    tensors = _execute(_calls(graph), x, keep=True)
    return {name: _channels_first(value).contiguous().numpy() for name, value in tensors.items()}


def split_logits(graph: IntGraph, split: Split, batch: int = 512) -> Int32:
    """Logits int32 [N, classes] of all images, in the order of ``split``."""
    found = []
    for pixels in torch.split(split.images, batch):
        found.append(run(graph, quantize_input(graph, normalise(pixels, graph.mean, graph.std))))
    return np.concatenate(found)


def share_right(logits: NDArray[np.number], split: Split) -> float:
    """Top-1 accuracy over ``split`` in 0..1; of equal logits the first counts."""
    return float((logits.argmax(1) == split.labels.numpy()).mean())


def accuracy(graph: IntGraph, split: Split, batch: int = 512) -> float:
    """``share_right`` of the logits of ``graph``."""
    return share_right(split_logits(graph, split, batch), split)


@dataclass(frozen=True, eq=False)
class _Call:
    """A node with its function of the tensors so far, and the tensors not needed afterwards."""

    node: IntNode
    compute: Callable[[dict[str, Tensor]], Tensor]
    done: frozenset[str]


def _calls(graph: IntGraph) -> list[_Call]:
    last = {name: node.name for node in graph.nodes for name in node.inputs}
    return [
        _Call(node, _compute(node), frozenset(n for n in node.inputs if last[n] == node.name))
        for node in graph.nodes
    ]


def _compute(node: IntNode) -> Callable[[dict[str, Tensor]], Tensor]:
    if isinstance(node, integer.IntConv):
        return partial(_conv, node, _kernel(node))
    return partial(STEPS[type(node)], node)


def _execute(calls: Sequence[_Call], x: Int8, keep: bool = False) -> dict[str, Tensor]:
    """Tensors [N, H, W, C] by name: all with ``keep``, else those still needed at the end."""
    tensors: dict[str, Tensor] = {INPUT: torch.from_numpy(np.require(x, np.int8, ["C", "W"]))}
    for call in calls:
        tensors[call.node.name] = call.compute(tensors)
        for name in () if keep else call.done:
            del tensors[name]
    del tensors[INPUT]
    return tensors


def _input(node: integer.IntInput, tensors: dict[str, Tensor]) -> Tensor:
    return tensors[INPUT].permute(0, 2, 3, 1).contiguous()


@dataclass(frozen=True, eq=False)
class _Kernel:
    """The weights of a convolution for its matrix product, and what follows it.

    ``matrix``: int8 [KH*KW*channels, O]; ``channels``: of the input, with padding; ``bound``: on
    the magnitude of partial sums. ``bias`` may hold the rounding of ``rescale``.
    """

    matrix: Tensor
    channels: int
    bound: int
    bias: Tensor
    rescale: Rescale
    relu: bool


def _kernel(node: integer.IntConv) -> _Kernel:
    out, channels, high, wide = node.weight.shape
    most = next((size for size in WIDE if size >= channels), max(WIDE))
    padded = channels if (high, wide) == (1, 1) else channels + -channels % most
    weight = np.pad(node.weight, ((0, 0), (0, padded - channels), (0, 0), (0, 0)))
    matrix = torch.from_numpy(weight).permute(2, 3, 1, 0).reshape(-1, out).contiguous()
    bound = 128 * int(np.abs(node.weight.astype(np.int64)).sum((1, 2, 3)).max())
    return _Kernel(matrix, padded, bound, *_shortened(node))


def _shortened(node: integer.IntConv) -> tuple[Tensor, Rescale, bool]:
    """Bias, rescale and ReLU of ``node`` with fewer passes over the accumulators, same results.

    What a right shift rounds by is added with the bias. A ReLU goes if the clip starts at 0 or
    above: shifting keeps the order, and 0 stays 0.
    """
    bias, rescale = torch.from_numpy(node.bias), node.rescale
    shift = rescale.shift
    if rescale.multiplies or isinstance(shift, np.ndarray) or shift < 0:
        return bias, rescale, node.relu
    if node.relu and not (rescale.clips and rescale.low >= 0):
        return bias, rescale, True
    half = 1 << (shift - 1) if rescale.rounding and shift else 0
    return bias + half, replace(rescale, rounding=False), False


def _conv(node: integer.IntConv, kernel: _Kernel, tensors: dict[str, Tensor]) -> Tensor:
    acc = _accumulate(node, kernel, tensors[node.input])
    acc += kernel.bias
    if node.residual is not None:
        _add_residual(acc, tensors[node.residual], node.residual_shift)
    return _finish(acc, kernel.rescale, kernel.relu, STORED[node.out_bits])


def _accumulate(node: integer.IntConv, kernel: _Kernel, x: Tensor) -> Tensor:
    """The convolution without bias: int32 [N, OH, OW, O]."""
    if kernel.channels > x.shape[3]:
        x = F.pad(x, (0, kernel.channels - x.shape[3]))
    columns = _columns(x, (node.weight.shape[2], node.weight.shape[3]), node.stride, node.padding)
    depth, out = kernel.matrix.shape
    acc = int8_matmul(columns.reshape(-1, depth), kernel.matrix, kernel.bound)
    return acc.reshape(*columns.shape[:3], out)


def _columns(
    x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The window of each output pixel, row by row: int8 [N, OH, OW, KH*KW*C]."""
    if kernel == (1, 1) and padding == (0, 0):
        return x[:, :: stride[0], :: stride[1]].contiguous()
    pixel = next((wide for size, wide in reversed(WIDE.items()) if x.shape[3] % size == 0))
    views = _window(x.contiguous().view(pixel), kernel, stride, padding, 0)
    return torch.cat(views, dim=3).view(torch.int8)


def _window(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
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


def _finish(acc: Tensor, rescale: Rescale, relu: bool, stored: torch.dtype) -> Tensor:
    """ReLU and rescale of int32 [..., C], in place; the low bits are stored."""
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


def _add(node: integer.IntAdd, tensors: dict[str, Tensor]) -> Tensor:
    kind = _holding(128 * ((1 << node.shift_a) + (1 << node.shift_b)), node.rescale)
    acc = tensors[node.a].to(kind)
    if node.shift_a:
        acc <<= node.shift_a
    other = tensors[node.b]
    acc += other.to(kind) << node.shift_b if node.shift_b else other
    return _finish(acc, node.rescale, node.relu, torch.int8)


def _relu(node: integer.IntRelu, tensors: dict[str, Tensor]) -> Tensor:
    acc = tensors[node.input].to(_holding(128, node.rescale), copy=True)
    return _finish(acc, node.rescale, True, torch.int8)


def _holding(most: int, rescale: Rescale) -> torch.dtype:
    """int16 where no value of ``rescale`` on accumulators up to ``most`` leaves it, else int32."""
    shift = rescale.shift
    if rescale.multiplies or isinstance(shift, np.ndarray) or abs(shift) > 14:
        return torch.int32
    largest = max(most + (1 << max(shift, 0)), most << max(-shift, 0))
    clipped = not rescale.clips or (rescale.low >= -(2**15) and rescale.high < 2**15)
    return torch.int16 if largest < 2**15 and clipped else torch.int32


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
    integer.IntInput: _input,
    integer.IntAdd: _add,
    integer.IntRelu: _relu,
    integer.IntMaxPool: _max_pool,
    integer.IntAvgPool: _avg_pool,
    integer.IntPad: _pad,
    IntConcat: _concat,
    IntSelect: _select,
    IntUpsample: _upsample,
}
