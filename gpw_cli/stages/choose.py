"""Choose the groups to remove, as configured, for prune and for gradual pruning.

chosen = choose_masks(job, model)                              # prune: in one step
chosen = choose_masks(job, model, weights=full, share=0.4)     # finetune: one of several steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.candidates import candidates, prunable_layers
from gpw_cli.pruning.masks import PruneResult, prune_masks
from gpw_cli.pruning.norms import shift_masks
from gpw_cli.stages.costs import within_budget
from gpw_cli.stages.inputs import pruning_tile
from gpw_cli.stages.network import image_shape_of
from gpw_cli.training.evaluate import gradient_products

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gpw_cli.stages.pipeline import Job


@dataclass(frozen=True, eq=False)
class Chosen:
    """``masks``: those of ``result`` and, unless ``keep_shift``, those of batch norms.

    ``measured``: metrics of the choice.
    """

    result: PruneResult
    masks: dict[str, Tensor]
    measured: dict[str, Any]


def choose_masks(
    job: Job, model: nn.Module, weights: Mapping[str, Tensor] | None = None, share: float = 1.0
) -> Chosen:
    """The masks that the ``pruning`` settings ask for.

    weights: parameters to score instead of those of the model; gradients are those of the model.
    share: the share to remove of what the settings ask for (the sparsity, or the cycles above the
    budget).
    """
    pruning = job.config.pruning
    names = prunable_layers(model, pruning.include_first, pruning.include_last)
    weights = weights or dict(model.named_parameters())
    products = _products(job, model, names, weights)
    tile = pruning_tile(job.config)
    scheme, criterion = pruning.scheme, pruning.criterion
    measured: dict[str, Any] = {}
    if pruning.scope is Scope.cycles:
        layers = candidates(
            weights, names, scheme=scheme, criterion=criterion, tile=tile, products=products
        )
        result, measured = within_budget(job, model, layers, share)
    else:
        result = prune_masks(
            weights,
            names,
            scheme=scheme,
            sparsity=pruning.exact_sparsity * Decimal(f"{share:.6f}"),
            scope=pruning.scope,
            criterion=criterion,
            tile=tile,
            rounding=pruning.rounding,
            products=products,
        )
    masks = result.masks
    if not pruning.keep_shift:
        masks = masks | shift_masks(model, masks, image_shape_of(job))
    return Chosen(result, masks, measured)


def _products(
    job: Job, model: nn.Module, names: Sequence[str], weights: Mapping[str, Tensor]
) -> dict[str, list[Tensor]] | None:
    pruning = job.config.pruning
    if not pruning.criterion.gradients:
        return None
    return gradient_products(
        model,
        {name: weights[name] for name in names},
        job.services.images(job.config),
        pruning.gradient_batches,
        job.services.device(),
    )
