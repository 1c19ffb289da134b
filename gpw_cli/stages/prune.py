"""prune: masks from the pre-trained weights, and the accuracy before any fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from gpw_cli.config.compose import to_plain
from gpw_cli.config.schema import Scope
from gpw_cli.pruning.bits import kept_bits
from gpw_cli.pruning.criteria import criterion_named
from gpw_cli.pruning.masks import (
    PruneResult,
    apply_masks,
    candidates,
    prunable_layers,
    prune_masks,
)
from gpw_cli.pruning.norms import shift_masks
from gpw_cli.stages.costs import within_budget
from gpw_cli.stages.inputs import pruning_tile
from gpw_cli.stages.network import (
    MASKS,
    evaluate,
    load_network,
    picture_of,
    save_network,
    save_weights,
)
from gpw_cli.stages.pipeline import Job
from gpw_cli.training.gradients import gradient_products

LAYERS = "layers.json"
MAX_BITS = 65_536  # groups of a layer whose mask is listed bit by bit in layers.json


def build(job: Job) -> dict[str, Any]:
    """Masked weights, the masks, and each layer's counts."""
    model, described = load_network(job.upstream["pretrain"])
    pruning = job.config.pruning
    result, measured = _chosen(job, model)
    for warning in result.warnings:
        job.services.listener.message(warning)
    masks = result.masks
    if not pruning.keep_shift:
        masks = masks | shift_masks(model, masks, picture_of(job))
    apply_masks(model, masks)
    save_network(job.work, model, described)
    save_weights(job.work / MASKS, masks)
    (job.work / LAYERS).write_text(json.dumps(_layers(result)))
    return {
        **to_plain(pruning),
        **measured,
        "groups_total": result.groups_total,
        "groups_removed": result.groups_removed,
        "sparsity_prunable": result.sparsity_prunable,
        "sparsity_network": result.sparsity_network,
        "warnings": list(result.warnings),
        **evaluate(job, model),
    }


def _chosen(job: Job, model: nn.Module) -> tuple[PruneResult, dict[str, Any]]:
    """The masks, and what choosing them measured."""
    pruning = job.config.pruning
    names = prunable_layers(model, pruning.include_first, pruning.include_last)
    weights = dict(model.named_parameters())
    products = _products(job, model, names)
    tile = pruning_tile(job.config)
    scheme, criterion = pruning.scheme.value, pruning.criterion.value
    if pruning.scope is not Scope.cycles:
        result = prune_masks(
            weights,
            names,
            scheme=scheme,
            sparsity=repr(pruning.sparsity),
            scope=pruning.scope.value,
            criterion=criterion,
            tile=tile,
            rounding=pruning.rounding.value,
            products=products,
        )
        return result, {}
    layers = candidates(
        weights, names, scheme=scheme, criterion=criterion, tile=tile, products=products
    )
    return within_budget(job, model, layers)


def _products(job: Job, model: nn.Module, names: Sequence[str]) -> dict[str, list[Tensor]] | None:
    pruning = job.config.pruning
    if not criterion_named(pruning.criterion.value).gradients:
        return None
    return gradient_products(
        model,
        names,
        job.services.pictures(job.config),
        pruning.gradient_batches,
        job.services.device(),
    )


def _layers(result: PruneResult) -> list[dict[str, Any]]:
    return [
        {
            "name": layer.name,
            "shape": list(layer.shape),
            "grid": list(layer.grid),
            "groups": layer.groups,
            "removed": layer.removed,
            "sparsity": layer.sparsity,
            "kept": kept_bits(layer.kept) if layer.groups <= MAX_BITS else None,
        }
        for layer in result.layers
    ]
