"""Reorder channels before pruning so that large weights share groups.

    permute_channels(model, (3, 32, 32), names, measure)     # in place

The channels of a tensor can be permuted if all layers that compute or read it follow: filters and
batch norms on one side, input channels on the other (Pool and Yu 2021). Tensors that additions join
along shortcuts share one order. Channels of the image, of the classes, and tensors with the zero
channels of an option-A shortcut are fixed.

For each set of tensors that is free, four orders are tried: the present one, and sorted by the
magnitude of the weights that compute a channel, that read it, and of both. The order that retains
the most weight magnitude is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpw_cli.errors import UsageError
from gpw_cli.graph.compact import tied_channels
from gpw_cli.graph.ir import BatchNorm, Conv, Graph, Input, Pad, inputs
from gpw_cli.graph.moves import Concat, Select
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.allocation import removed_count
from gpw_cli.pruning.groups import GroupLayout, Scheme, Tile, group_layout
from gpw_cli.pruning.norms import Layer

Measure = Callable[[str, Tensor], float]


@dataclass(frozen=True, eq=False)
class Free:
    """Layers and batch norms whose ``channels`` are permuted together."""

    channels: int
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    norms: tuple[str, ...]


def permute_channels(
    model: nn.Module, image: tuple[int, int, int], names: Sequence[str], measure: Measure
) -> int:
    """Permute ``model`` in place; returns the number of tensor sets whose order changed.

    names: the weights to be pruned; measure: the magnitude that a weight retains, by its name.
    Raises UsageError if no channels of the network can be permuted.
    """
    sets = [free for free in free_sets(model, trace(model, image)) if free.channels > 1]
    if not sets:
        raise UsageError(
            "pruning.permute=true: no channels of this network can be permuted (each set "
            "meets the image, the classes or a padded shortcut); use pruning.permute=false"
        )
    return sum(_improve(model, free, set(names), measure) for free in sets)


def retained(scheme: Scheme, sparsity: Decimal, tile: Tile) -> Measure:
    """A measure: the sum of the magnitudes in the groups that ``sparsity`` keeps."""

    def measure(_: str, weight: Tensor) -> float:
        layout: GroupLayout = group_layout(scheme, tuple(weight.shape), tile)
        values = weight.detach().cpu().double().abs().reshape(layout.shape).numpy()
        sums = np.sort(layout.collect(values).sum(0), axis=None)
        return float(sums[removed_count(sparsity, sums.size) :].sum())

    return measure


def free_sets(model: nn.Module, graph: Graph) -> list[Free]:
    """The sets of tensors that can be permuted together, in network order."""
    ids = tied_channels(graph)
    fixed = {int(i) for name in _fixed(graph) for i in ids[name]}
    orders: dict[bytes, NDArray[np.int64]] = {own.tobytes(): own for own in ids.values()}
    users: dict[int, set[bytes]] = {}
    for key, own in orders.items():
        for number in own.tolist():
            users.setdefault(number, set()).add(key)
    found = []
    for key, own in orders.items():
        numbers = own.tolist()
        whole = len(set(numbers)) == len(numbers) and not fixed & set(numbers)
        if whole and all(users[number] == {key} for number in numbers):
            free = _members(model, graph, {n for n, other in ids.items() if other.tobytes() == key})
            found += [] if free is None else [free]
    return found


def _fixed(graph: Graph) -> set[str]:
    """Tensors whose channel order is fixed."""
    names = {graph.input.name, graph.output}
    for node in graph.nodes:
        if isinstance(node, Concat | Select) or (
            isinstance(node, Pad) and (node.before or node.after)
        ):
            names |= {node.name, *inputs(node)}
    return names


def _members(model: nn.Module, graph: Graph, tensors: set[str]) -> Free | None:
    """The layers around ``tensors``; None if one of them runs twice or is a grouped convolution."""
    makers, readers, norms = [], [], []
    modules = dict(model.named_modules())
    for node in graph.nodes:
        if isinstance(node, Input) or not ({node.name, *inputs(node)} & tensors):
            continue
        if not isinstance(node, Conv | BatchNorm):
            continue
        module = modules.get(node.name)
        if isinstance(node, BatchNorm) and isinstance(module, nn.BatchNorm2d):
            norms.append(node.name)
        elif isinstance(module, Layer) and getattr(module, "groups", 1) == 1:
            makers += [node.name] if node.name in tensors else []
            readers += [node.name] if node.input in tensors else []
        else:
            return None
    called = [node.name for node in graph.nodes]
    if any(f"{name}_1" in called for name in (*makers, *readers, *norms)):
        return None
    channels = next(node.shape[0] for node in graph.nodes if node.name in tensors)
    return Free(channels, tuple(makers), tuple(readers), tuple(norms))


def _improve(model: nn.Module, free: Free, names: set[str], measure: Measure) -> bool:
    """Permute ``free`` if another order retains more; returns whether it was permuted."""
    made = sum(_magnitudes(model, name, free.channels, 0) for name in free.makers)
    read = sum(_magnitudes(model, name, free.channels, 1) for name in free.readers)
    orders = [torch.arange(free.channels)]
    for key in (made, read, made + read):
        if isinstance(key, Tensor):
            orders.append(torch.argsort(key, descending=True, stable=True))
    values = [_kept(model, free, order, names, measure) for order in orders]
    best = int(np.argmax(values))
    if values[best] <= values[0]:
        return False
    _apply(model, free, orders[best])
    return True


def _magnitudes(model: nn.Module, name: str, channels: int, axis: int) -> Tensor:
    """Sum of |w| of each output (axis 0) or input (axis 1) channel, float64."""
    weight = model.get_parameter(f"{name}.weight").detach().cpu().double().abs()
    weight = weight.reshape(len(weight), channels, -1) if axis else weight.flatten(1)
    return weight.sum([dim for dim in range(weight.ndim) if dim != axis])


def _kept(model: nn.Module, free: Free, order: Tensor, names: set[str], measure: Measure) -> float:
    weights = {
        f"{name}.weight": model.get_parameter(f"{name}.weight").detach()
        for name in {*free.makers, *free.readers}
    }
    for name in free.makers:
        weights[f"{name}.weight"] = weights[f"{name}.weight"][order]
    for name in free.readers:
        weights[f"{name}.weight"] = _columns(weights[f"{name}.weight"], order)
    return sum(measure(name, weights[name]) for name in sorted(weights.keys() & names))


def _columns(weight: Tensor, order: Tensor) -> Tensor:
    """``weight`` [O, I, ...] or a linear layer's [O, I * pixels] with its channels in ``order``."""
    split = weight.reshape(len(weight), len(order), -1)
    return split[:, order].reshape(weight.shape)


@torch.no_grad()
def _apply(model: nn.Module, free: Free, order: Tensor) -> None:
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in (*free.makers, *free.norms):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            tensor = own.get(f"{name}.{leaf}")
            if tensor is not None:
                tensor.copy_(tensor[order].clone())
    for name in free.readers:
        weight = own[f"{name}.weight"]
        weight.copy_(_columns(weight, order).clone())
