"""What ``gpw_cli.prune`` computes besides masks: gradients, and the choice within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.graph.branches import residual_branches
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.budget import choose
from gpw_cli.pruning.candidates import candidates
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.masks import PruneResult, masks_of
from gpw_cli.pruning.norms import evaluating
from gpw_cli.stages.costs import NetworkCosts, budget_limit
from gpw_cli.stages.inputs import pruning_tile


def products_of(
    model: nn.Module,
    names: Sequence[str],
    images: Tensor,
    labels: Tensor | None,
    criterion: Criterion,
) -> dict[str, list[Tensor]] | None:
    """Gradient times weight of each batch, by parameter name; None for a criterion without.

    Raises UsageError for a gradient criterion without ``labels``.
    """
    if not criterion.gradients:
        return None
    if labels is None:
        raise UsageError(f"criterion={criterion.value} takes gradients: give labels int64 [N]")
    own = dict(model.named_parameters())
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluating(model):
        for x, y in zip(torch.split(images, 128), torch.split(labels, 128), strict=True):
            loss = nn.functional.cross_entropy(model(x), y)
            gradients = torch.autograd.grad(loss, [own[name] for name in names])
            for name, gradient in zip(names, gradients, strict=True):
                found[name].append(gradient * own[name].detach())
    return found


def within_budget(
    model: nn.Module,
    images: Tensor,
    names: Sequence[str],
    products: Mapping[str, Sequence[Tensor]] | None,
    config: Config,
) -> PruneResult:
    """The knapsack's masks for ``config.pruning.budget``; UsageError if it cannot be met."""
    weights = dict(model.named_parameters())
    layers = candidates(
        weights,
        names,
        scheme=config.pruning.scheme,
        criterion=config.pruning.criterion,
        tile=pruning_tile(config),
        products=products,
    )
    graph = trace(model, (int(images.shape[1]), int(images.shape[2]), int(images.shape[3])))
    costs = NetworkCosts(graph, images, config)
    limit = budget_limit(config, costs.compiled({})[1])
    return masks_of(weights, layers, choose(costs.problem(layers, residual_branches(graph), limit)))
