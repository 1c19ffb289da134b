"""finetune.quantized, finetune.shared: training as the integer network, with shared values.

The artifact holds the folded weights and biases as they were trained and, beside them, the ranges
they were trained with, so that quantize and fuse make exactly the integers whose accuracy training
measured. Shared values, 2^bits of them in each layer, leave the same weights, and no ranges; they
are chosen in the network as it is quantized later, so that with one scale per layer the integers
are shared in the same way, and an engine with a codebook (target=eie) has exactly the trained
values, rounded to the bits of the quantizer.
``model.safetensors`` holds the same weights in the network's own layers, behind batch norms that
pass them on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.ir import BatchNorm, Conv, Graph
from gpw_cli.graph.parameters import parameters
from gpw_cli.graph.trace import trace
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.shared import SharedNetwork
from gpw_cli.quantization.trained import QuantizedNetwork
from gpw_cli.stages.integers import TRAINED, calibration_batches, prepared
from gpw_cli.stages.network import evaluate, image_shape_of, save_weights
from gpw_cli.stages.train import TrainingPart, train

if TYPE_CHECKING:
    from gpw_cli.stages.pipeline import Job


def quantized_network(job: Job, model: nn.Module) -> QuantizedNetwork:
    """``model`` for training as integers, calibrated as in the stage quantize.

    Raises UnsupportedError for a convolution that runs more than once.
    """
    job.services.device()  # sets the thread count of this process
    graph, quantizer = folded(job, model, "finetune.quantized=true"), job.config.quantizer
    return QuantizedNetwork(graph, calibrate(graph, calibration_batches(job), quantizer), quantizer)


def share_values(
    job: Job, model: nn.Module, rows: Sequence[dict[str, Any]]
) -> tuple[SharedNetwork, dict[str, Any]]:
    """Train ``model`` with shared values; returns it and metrics. ``rows``: history so far.

    ``shared_untrained``: test accuracy, in percent, with the values of k-means.
    Raises UnsupportedError for a convolution that runs more than once.
    """
    own = job.config.finetune
    network = SharedNetwork(folded(job, model, "finetune.shared.bits"), own.shared.bits)
    untrained = evaluate(job, network)["test_accuracy"]
    recipe = replace(own.train, epochs=own.shared.epochs, lr=own.shared.lr, weight_decay=0.0)
    part = TrainingPart("shared", rows)
    metrics = train(job, "finetune", network, recipe, distill=own.distill, part=part)
    return network, {
        **metrics,
        "shared_bits": own.shared.bits,
        "shared_epochs": own.shared.epochs,
        "shared_untrained": untrained,
    }


def folded(job: Job, model: nn.Module, option: str) -> Graph:
    """``model`` as a graph whose weights train on their own, batch norms folded, equalised.

    Raises UnsupportedError, naming ``option``, for a convolution whose weights cannot be put back
    into a layer of its own.
    """
    graph = prepared(job, model, equalise=True)
    modules, seen = dict(model.named_modules()), set[int]()
    for node in graph.nodes:
        if isinstance(node, Conv) and (why := _homeless(node, modules.get(node.name), seen)):
            raise UnsupportedError(f"{option}: {node.name} {why}; leave the option out")
    return graph


def _homeless(node: Conv, module: nn.Module | None, seen: set[int]) -> str | None:
    """Why the weights of ``node`` cannot be those of ``module``; None if they can.

    seen: the weights of earlier layers.
    """
    if module is None:
        return "runs twice or is no nn.Conv2d or nn.Linear, so that its weights would part"
    if isinstance(module, nn.BatchNorm2d):
        return None
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return f"({type(module).__name__}) becomes a convolution that its module has no weights for"
    if id(module.weight) in seen:
        return "shares its weight with another layer, and they would part"
    seen.add(id(module.weight))
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    if node.weight.any() and node.weight.size != groups * module.weight.numel():
        return "is dilated, or pooling in front of it became part of its weights"
    return None


def keep(job: Job, model: nn.Module, graph: Graph) -> None:
    """Leave the trained weights of ``graph`` in the artifact, and put them into ``model``."""
    arrays = {name: torch.from_numpy(value).float() for name, value in parameters(graph).items()}
    save_weights(job.work / TRAINED, arrays)
    put_into(model, graph, trace(model, image_shape_of(job)))


@torch.no_grad()
def put_into(model: nn.Module, graph: Graph, traced: Graph) -> None:
    """Copy the folded weights of ``graph`` into ``model``; ``traced``: the graph of ``model``.

    A batch norm that was folded into a convolution then only adds the bias.
    """
    for node in graph.nodes:
        if not isinstance(node, Conv):
            continue
        module = model.get_submodule(node.name)
        weight, bias = torch.from_numpy(node.weight).float(), torch.from_numpy(node.bias).float()
        if isinstance(module, nn.BatchNorm2d):  # one that followed no convolution
            _passing(module, bias, weight.diagonal().reshape(-1))
            continue
        assert isinstance(module, nn.Conv2d | nn.Linear)
        if weight.any():
            module.weight.copy_(_own_groups(module, weight).reshape(module.weight.shape))
        else:  # its input, and so its shape, may be removed
            module.weight.zero_()
        after = traced.only_consumer(node.name)
        if isinstance(after, BatchNorm):
            _passing(model.get_submodule(after.name), bias, torch.ones_like(bias))
            bias = torch.zeros_like(bias)
        if module.bias is not None:
            module.bias.copy_(bias)


def _own_groups(module: nn.Module, weight: Tensor) -> Tensor:
    """[O, I / groups, KH, KW] of a grouped convolution's [O, I, KH, KW], zero across groups."""
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    parts = zip(weight.chunk(groups), range(groups), strict=True)
    return torch.cat([rows.chunk(groups, 1)[index] for rows, index in parts])


def _passing(norm: nn.Module, bias: Tensor, scale: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
    norm.weight.copy_(scale)
    norm.bias.copy_(bias)
