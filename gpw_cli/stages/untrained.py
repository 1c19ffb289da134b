"""A network without data and training: random or given weights, calibrated on noise.

    graph = integers_untrained(config)               # dense
    npu_of(config.target).compile(graph).time().cycles

Cycles depend on the remaining tiles and the shifts, but hardly on the values of the weights. This
estimates the speed of a network in seconds, and shows whether it compiles.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gpw_cli.config.schema import Config
from gpw_cli.data.catalog import class_count as classes_of
from gpw_cli.data.folder import listed
from gpw_cli.graph.branches import residual_branches
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.budget import choose
from gpw_cli.pruning.candidates import candidates, prunable_layers
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.groups import Scheme
from gpw_cli.pruning.masks import masks_of, prune_masks
from gpw_cli.stages.costs import NetworkCosts, budget_limit
from gpw_cli.stages.inputs import image_shape, pruning_tile
from gpw_cli.stages.network import fresh_network, give_weights
from gpw_cli.training.randomness import derived_seed

if TYPE_CHECKING:
    from torch import nn

    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.pruning.budget import Problem
    from gpw_cli.pruning.candidates import Candidate
    from gpw_cli.pruning.masks import PruneResult

NOISE_IMAGES = 2


def class_count(config: Config) -> int:
    """Number of classes of the data set; DataError if an image folder is missing."""
    if known := classes_of(config.data.name):
        return known
    return len(listed(Path(config.data.root) if config.data.root else None)[1])


def untrained_network(
    config: Config, classes: int | None = None, download: bool = True
) -> nn.Module:
    """The network with the weights of ``pretrain.source``, else newly initialised.

    download: torchvision's weights, if they are not there.
    """
    channels, _ = image_shape(config)
    torch.manual_seed(derived_seed(config.seed, "pretrain", -1))
    model, _ = fresh_network(config, classes or class_count(config), channels)
    give_weights(config, model, download)
    return model.eval()


def masks_untrained(config: Config, model: nn.Module) -> PruneResult | None:
    """The masks of the prune stage, under a budget by the saliency ``l1``; None for ``dense``.

    Raises UsageError for a budget that cannot be met.
    """
    pruning = config.pruning
    if pruning.scheme is Scheme.dense:
        return None
    if pruning.scope is Scope.cycles:
        problem = problem_untrained(config, model, untrained_costs(config, model))
        kept = choose(problem)
        return masks_of(dict(model.named_parameters()), _candidates(config, model), kept)
    return prune_masks(
        dict(model.named_parameters()),
        prunable_layers(model, pruning.include_first, pruning.include_last),
        scheme=pruning.scheme,
        sparsity=pruning.exact_sparsity,
        scope=pruning.scope,
        criterion=pruning.criterion,
        tile=pruning_tile(config),
        rounding=pruning.rounding,
    )


def untrained_costs(config: Config, model: nn.Module | None = None) -> NetworkCosts:
    """Costs of masks of ``model`` without a data set, calibrated on noise.

    Equalisation and bias correction are left out, since they do not change zeros.
    """
    channels, size = image_shape(config)
    model = untrained_network(config) if model is None else model
    quick = replace(config.quantizer, equalise=False, bias_correction=False)
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn(NOISE_IMAGES, channels, size, size, generator=generator)
    graph = trace(model, (channels, size, size))
    return NetworkCosts(graph, noise, replace(config, quantizer=quick))


def problem_untrained(config: Config, model: nn.Module, costs: NetworkCosts) -> Problem:
    """The knapsack problem of scope ``cycles``, with the saliency of untrained weights."""
    limit = budget_limit(config, costs.compiled({})[1])
    return costs.problem(_candidates(config, model), residual_branches(costs.graph), limit)


def _candidates(config: Config, model: nn.Module) -> list[Candidate]:
    pruning = config.pruning
    return candidates(
        dict(model.named_parameters()),
        prunable_layers(model, pruning.include_first, pruning.include_last),
        scheme=pruning.scheme,
        criterion=Criterion.l1,
        tile=pruning_tile(config),
    )


def integers_untrained(config: Config, model: nn.Module | None = None) -> IntGraph:
    """The fused integer network of ``model``, calibrated on ``NOISE_IMAGES`` images of noise."""
    return untrained_costs(config, model).integers({})
