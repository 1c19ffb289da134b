"""Skip layers during training that a mask has removed completely.

    with skip_dead(model, masks, (3, 32, 32)):
        ...                      # forward and backward of these layers cost nothing

A convolution whose weights are all masked returns a constant. If the batch norms of removed
channels are masked too (pruning/norms.py), modules whose output is zero or unused are also skipped,
and a residual block without a branch becomes its shortcut. Dead modules are found by the same pass
that removes them from the float graph (graph/dead.py), run on the masks alone.

Forward values are bit-identical to those of the full computation. No gradient flows through a
skipped module, where it would be zero, and the running statistics of its batch norms are not
updated, because nothing reads them.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.dead import Simplified, simplify
from gpw_cli.graph.ir import Graph, inputs
from gpw_cli.graph.trace import trace

Forward = Callable[[Tensor], Tensor]


@contextmanager
def skip_dead(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    image: tuple[int, int, int] | None = None,
) -> Iterator[list[str]]:
    """Within the block, modules that have nothing left to compute under ``masks`` are replaced.

    Yields the names of the convolutions without weights. ``image``: the input shape [C, H, W].
    Without it, or if the network cannot be traced, only these convolutions are replaced.
    """
    modules = dict(model.named_modules())
    dead: dict[str, Forward] = {
        name: partial(_constant, module)
        for name, module in modules.items()
        if isinstance(module, nn.Conv2d) and _gone(masks.get(f"{name}.weight"))
    }
    replaced = dict(dead)
    if image is not None and any(mask.ndim == 1 and _gone(mask) for mask in masks.values()):
        replaced |= _around(model, masks, image)
    for name, forward in replaced.items():
        # an instance attribute hides the method until it is deleted below
        modules[name].forward = forward
    try:
        yield list(dead)
    finally:
        for name in replaced:
            del modules[name].forward


def _gone(mask: Tensor | None) -> bool:
    return mask is not None and not bool(mask.any())


def _around(
    model: nn.Module, masks: Mapping[str, Tensor], image: tuple[int, int, int]
) -> dict[str, Forward]:
    """Replacements for modules whose output is zero, unused, or equal to their input."""
    try:
        graph = trace(_ones(model, masks), image)
    except UnsupportedError:
        return {}
    left = simplify(graph)
    replaced: dict[str, Forward] = {}
    for name, module in _called_once(model, graph).items():
        if isinstance(module, nn.Conv2d) and name not in left.same:
            replaced[name] = partial(_constant, module)
        elif isinstance(module, nn.BatchNorm2d | nn.ReLU) and name not in left.same:
            replaced[name] = torch.zeros_like
        elif _is_identity(name, module, graph, left):
            replaced[name] = _same
    return replaced


def _ones(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """A copy with every parameter 1, or 0 where it is masked.

    A zero in its output is zero for all weights, since sums and products of positive numbers are
    positive.
    """
    still = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in still.named_parameters():
            parameter.fill_(1.0)
            if name in masks:
                parameter.mul_(masks[name].to(parameter.device))
        for module in still.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
    return still


def _called_once(model: nn.Module, graph: Graph) -> dict[str, nn.Module]:
    """Modules that have one path and are called once, so their forward may be replaced."""
    paths = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    modules = dict(model.named_modules())
    # the node of a module's second call has a number after the path
    again = {re.sub(r"_\d+$", "", n.name) for n in graph.nodes if n.name not in modules}
    return {n: m for n, m in modules.items() if n and paths[id(m)] == 1 and n not in again}


def _is_identity(name: str, module: nn.Module, graph: Graph, left: Simplified) -> bool:
    """Whether a block returns the only tensor it reads, and nothing else reads that tensor."""
    inside = {node.name for node in graph.nodes if node.name.startswith(f"{name}.")}
    reads = [(node.name in inside, source) for node in graph.nodes for source in inputs(node)]
    enters = {source for within, source in reads if within and source not in inside}
    leaves = {source for within, source in reads if not within and source in inside}
    leaves |= inside & {graph.output}
    if len(enters) != 1 or len(leaves) != 1 or any((False, source) in reads for source in enters):
        return False
    entry, exit_ = left.same.get(*enters), left.same.get(*leaves)
    return (
        entry is not None
        and entry == exit_
        and len(inspect.signature(module.forward).parameters) == 1
        and not any(isinstance(part, _DropoutNd) for part in module.modules())
    )


def _same(x: Tensor) -> Tensor:
    return x


def _constant(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Output of ``conv`` with zero weights for x [N, I, H, W]: zeros, or its bias."""
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
