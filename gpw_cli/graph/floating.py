"""Runs the float graph with PyTorch, for calibration and to check that a pass changed nothing.

logits = run_float(graph, x)                                   # [N, classes]
run_float(graph, x, lambda name, tensor: observer.see(name, tensor))
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gpw_cli.graph.ir import (
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Conv,
    Graph,
    Input,
    MaxPool,
    Node,
    Pad,
    ReLU,
)
from gpw_cli.graph.ir import inputs as inputs_of
from gpw_cli.graph.moves import Concat, Move, Select, Spread, Upsample

Visit = Callable[[str, Tensor], None]


@torch.no_grad()
def run_float(graph: Graph, x: Tensor, visit: Visit | None = None) -> Tensor:
    """Logits [N, classes] of images [N, C, H, W], in the dtype of ``x``.

    ``visit`` is called with the name and value [N, C, H, W] of every tensor, including the input.
    """
    last = {name: node.name for node in graph.nodes for name in inputs_of(node)}
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        value = x if isinstance(node, Input) else compute(node, tensors)
        tensors[node.name] = value
        if visit is not None:
            visit(node.name, value)
        for name in inputs_of(node):
            if last[name] == node.name:
                tensors.pop(name, None)
    return tensors[graph.output].flatten(1)


def compute(node: Node, tensors: dict[str, Tensor]) -> Tensor:
    """The value of ``node``, other than the input, from those of its inputs [N, C, H, W]."""
    x = tensors[inputs_of(node)[0]]
    if isinstance(node, Conv):
        weight, bias = torch.from_numpy(node.weight).to(x), torch.from_numpy(node.bias).to(x)
        return F.conv2d(x, weight, bias, node.stride, node.padding)
    if isinstance(node, BatchNorm):
        scale, shift = torch.from_numpy(node.scale).to(x), torch.from_numpy(node.shift).to(x)
        return x * scale[:, None, None] + shift[:, None, None]
    if isinstance(node, Add):
        return x + tensors[node.b]
    if isinstance(node, Clip):
        return x.clamp(node.low, node.high)
    if isinstance(node, MaxPool):
        if any(node.after):
            beside = (node.padding[1], node.padding[1] + node.after[1])
            below = (node.padding[0], node.padding[0] + node.after[0])
            padded = F.pad(x, (*beside, *below), value=-torch.inf)
            return F.max_pool2d(padded, node.kernel, node.stride)
        return F.max_pool2d(x, node.kernel, node.stride, node.padding)
    if isinstance(node, AvgPool):
        return F.avg_pool2d(x, node.kernel, node.stride, node.padding)
    if isinstance(node, Pad):
        sampled = x[:, :, :: node.stride[0], :: node.stride[1]]
        return F.pad(sampled, (0, 0, 0, 0, node.before, node.after))
    if isinstance(node, ReLU):
        return F.relu(x)
    assert isinstance(node, Concat | Select | Upsample | Spread)
    return _moved(node, [tensors[name] for name in inputs_of(node)])


def _moved(node: Move, sources: list[Tensor]) -> Tensor:
    x = sources[0]
    if isinstance(node, Concat):
        return torch.cat(sources, 1)
    if isinstance(node, Select):
        return x[:, torch.from_numpy(node.channels)]
    if isinstance(node, Upsample):
        return x.repeat_interleave(node.factor[0], 2).repeat_interleave(node.factor[1], 3)
    return torch.from_numpy(node.rows).to(x) @ x @ torch.from_numpy(node.cols).to(x).T
