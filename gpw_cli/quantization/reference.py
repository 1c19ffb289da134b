"""The integer reference executor: exact results that the NPU's program must reproduce.

    x = quantize_images(graph, pixels)           # int8 [N, C, H, W] of uint8 [N, H, W, C]
    logits = run(graph, x)                       # int32 [N, classes]
    logits = split_logits(graph, images.test)    # of a whole split

Internally, tensors are int8 [N, H, W, C], so that a convolution can gather whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpw_cli.arrays import Int8, Int32
from gpw_cli.data.images import Split, normalise
from gpw_cli.graph import integer
from gpw_cli.graph.integer import IntGraph, IntNode
from gpw_cli.quantization.convolution import ConvWeights, conv, conv_weights, kernel_views
from gpw_cli.quantization.rescaling import finish, holding
from gpw_cli.threads import each

PIXELS = 32 * 32 * 32  # of a call's images: more do not fit in the L2 cache, fewer cost calls
MOST = 512  # images of a call, however small
INPUT = ""  # name of the quantized input images; no node has it


def quantize_input(graph: IntGraph, x: Tensor | NDArray[np.float32]) -> Int8:
    """int8 [N, C, H, W] of normalised images [N, C, H, W]: clip(round(x / scale))."""
    source = graph.input
    scaled = torch.as_tensor(x).float() * (1.0 / source.scale)
    rounded = torch.sign(scaled) * torch.floor(scaled.abs() + 0.5)
    codes = rounded.clamp(source.low, source.high).to(torch.int8)
    return codes.contiguous().numpy()


def quantize_images(graph: IntGraph, pixels: Tensor) -> Int8:
    """``quantize_input`` of uint8 [N, H, W, C], normalised: int8 [N, C, H, W]."""
    return np.concatenate(each(partial(_codes, graph), torch.split(pixels, _batch(graph))))


def _codes(graph: IntGraph, pixels: Tensor) -> Int8:
    return quantize_input(graph, normalise(pixels, graph.mean, graph.std))


def run(graph: IntGraph, x: Int8) -> Int32:
    """Logits int32 [N, classes] of quantized images int8 [N, C, H, W]."""
    logits, size = _logits(graph), _batch(graph)
    return np.concatenate(each(logits, [x[i : i + size] for i in range(0, len(x), size)]))


def _batch(graph: IntGraph) -> int:
    """How many images a call takes."""
    _, high, wide = graph.input.shape
    return max(1, min(MOST, PIXELS // (high * wide)))


def _logits(graph: IntGraph) -> Callable[[Int8], Int32]:
    """A function from quantized images to logits, for several threads."""
    calls = _calls(graph)

    def logits(x: Int8) -> Int32:
        found = _channels_first(_execute(calls, x)[graph.output])
        return found.flatten(1).to(torch.int32).numpy()

    return logits


def run_all(graph: IntGraph, x: Int8) -> dict[str, NDArray[np.signedinteger]]:
    """All tensors [N, C, H, W] by name: int8, the output int8, int16 or int32."""
    tensors = _execute(_calls(graph), x, keep=True)
    return {name: _channels_first(value).contiguous().numpy() for name, value in tensors.items()}


def split_logits(graph: IntGraph, split: Split) -> Int32:
    """Logits int32 [N, classes] of all images, in the order of ``split``."""
    logits = _logits(graph)

    def found(pixels: Tensor) -> Int32:
        return logits(_codes(graph, pixels))

    return np.concatenate(each(found, torch.split(split.images, _batch(graph))))


def share_right(logits: NDArray[np.number], split: Split) -> float:
    """Top-1 accuracy over ``split`` in 0..1; of equal logits, the first wins."""
    return float((logits.argmax(1) == split.labels.numpy()).mean())


def accuracy(graph: IntGraph, split: Split) -> float:
    """``share_right`` of the logits of ``graph``."""
    return share_right(split_logits(graph, split), split)


@dataclass(frozen=True, eq=False)
class _Call:
    """``compute`` makes the tensor of ``node`` from those so far; ``done``: not needed any more."""

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
        return partial(_conv, node, conv_weights(node))
    return partial(STEPS[type(node)], node)


def _execute(calls: Sequence[_Call], x: Int8, keep: bool = False) -> dict[str, Tensor]:
    """Tensors [N, H, W, C] by name: all if ``keep``, else only the output."""
    tensors: dict[str, Tensor] = {INPUT: torch.from_numpy(np.require(x, np.int8, ["C", "W"]))}
    for call in calls:
        tensors[call.node.name] = call.compute(tensors)
        for name in () if keep else call.done:
            del tensors[name]
    del tensors[INPUT]
    return tensors


def _input(node: integer.IntInput, tensors: dict[str, Tensor]) -> Tensor:
    return tensors[INPUT].permute(0, 2, 3, 1).contiguous()


def _conv(node: integer.IntConv, weights: ConvWeights, tensors: dict[str, Tensor]) -> Tensor:
    residual = None if node.residual is None else tensors[node.residual]
    return conv(node, weights, tensors[node.input], residual)


def _add(node: integer.IntAdd, tensors: dict[str, Tensor]) -> Tensor:
    kind = holding(128 * ((1 << node.shift_a) + (1 << node.shift_b)), node.rescale)
    acc = tensors[node.a].to(kind)
    if node.shift_a:
        acc <<= node.shift_a
    other = tensors[node.b]
    acc += other.to(kind) << node.shift_b if node.shift_b else other
    return finish(acc, node.rescale, node.relu, torch.int8)


def _relu(node: integer.IntRelu, tensors: dict[str, Tensor]) -> Tensor:
    acc = tensors[node.input].to(holding(128, node.rescale), copy=True)
    return finish(acc, node.rescale, True, torch.int8)


def _max_pool(node: integer.IntMaxPool, tensors: dict[str, Tensor]) -> Tensor:
    x = F.pad(tensors[node.input], (0, 0, 0, node.after[1], 0, node.after[0]), value=-128)
    views = kernel_views(x, node.kernel, node.stride, node.padding, -128)
    result = views[0].clone()
    for view in views[1:]:
        torch.maximum(result, view, out=result)
    return result


def _avg_pool(node: integer.IntAvgPool, tensors: dict[str, Tensor]) -> Tensor:
    views = kernel_views(tensors[node.input], node.kernel, node.stride, node.padding, 0)
    acc = views[0].to(torch.int32)
    for view in views[1:]:
        acc += view
    return finish(acc, node.rescale, False, torch.int8)


def _pad(node: integer.IntPad, tensors: dict[str, Tensor]) -> Tensor:
    sampled = tensors[node.input][:, :: node.stride[0], :: node.stride[1]]
    return F.pad(sampled, (node.before, node.after))


def _concat(node: integer.IntConcat, tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[part] for part in node.parts], -1)


def _select(node: integer.IntSelect, tensors: dict[str, Tensor]) -> Tensor:
    return tensors[node.input][..., torch.from_numpy(node.channels)]


def _upsample(node: integer.IntUpsample, tensors: dict[str, Tensor]) -> Tensor:
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
    integer.IntConcat: _concat,
    integer.IntSelect: _select,
    integer.IntUpsample: _upsample,
}
