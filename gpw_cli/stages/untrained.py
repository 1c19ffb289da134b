"""A network without data and training: random or given weights, ranges of noise, its program.

    graph = integers_untrained(config)               # dense
    npu_of(config.target).compile(graph).time().cycles

Cycles depend on which tiles survive and on the shifts, hardly on the weights' values, so this
answers "how fast would it be" in seconds, and whether a network compiles at all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gpw_cli.config.schema import Config
from gpw_cli.data.catalog import describe
from gpw_cli.data.folder import listed
from gpw_cli.graph.integer import IntConv
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.groups import Scheme
from gpw_cli.pruning.masks import apply_masks, prunable_layers, prune_masks
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.stages.inputs import picture_shape, pruning_tile
from gpw_cli.stages.network import fresh_network, give_weights
from gpw_cli.training.randomness import derived_seed

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.pruning.masks import PruneResult

PICTURES = 2  # of noise


def class_count(config: Config) -> int:
    """Classes of the data set; of an image folder, its folders. DataError where it is absent."""
    info = next(info for info in describe() if info.name == config.data.name)
    if info.classes:
        return info.classes
    return len(listed(Path(config.data.root) if config.data.root else None)[1])


def untrained_network(config: Config, classes: int | None = None) -> nn.Module:
    """The network with the weights of ``pretrain.source``, else as it is initialised."""
    channels, _ = picture_shape(config)
    torch.manual_seed(derived_seed(config.seed, "pretrain", -1))
    model, _ = fresh_network(config, classes or class_count(config), channels)
    give_weights(config, model)
    return model.eval()


def prune_untrained(config: Config, model: nn.Module) -> PruneResult | None:
    """Masks as the prune stage makes them, applied in place; None for ``dense``."""
    pruning = config.pruning
    if pruning.scheme is Scheme.dense:
        return None
    result = prune_masks(
        dict(model.named_parameters()),
        prunable_layers(model, pruning.include_first, pruning.include_last),
        scheme=pruning.scheme,
        sparsity=pruning.exact_sparsity,
        scope=pruning.scope,
        criterion=pruning.criterion,
        tile=pruning_tile(config),
        rounding=pruning.rounding,
    )
    apply_masks(model, result.masks)
    return result


def integers_untrained(config: Config, model: nn.Module | None = None) -> IntGraph:
    """The fused integer network of ``model``; its ranges are those of ``PICTURES`` of noise."""
    channels, size = picture_shape(config)
    model = untrained_network(config) if model is None else model
    quantizer = replace(config.quantizer, equalise=False)  # 1 s that says nothing about cycles
    graph = prepare(trace(model, (channels, size, size)), quantizer)
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(PICTURES, channels, size, size, generator=generator)
    return quantize_graph(graph, calibrate(graph, [noise], quantizer), quantizer, fused=True)


def masked(graph: IntGraph, result: PruneResult) -> IntGraph | None:
    """``graph`` without the pruned weights; None where a layer is no convolution of its own shape.

    What a tile's zeros save does not depend on the other codes, so the dense ones do.
    """
    masks = {name.removesuffix(".weight"): mask for name, mask in result.masks.items()}
    nodes = []
    for node in graph.nodes:
        mask = masks.pop(node.name, None)
        if mask is not None:
            if not isinstance(node, IntConv) or mask.numel() != node.weight.size:
                return None
            node = replace(node, weight=node.weight * mask.numpy().reshape(node.weight.shape))
        nodes.append(node)
    return None if masks else replace(graph, nodes=tuple(nodes))
