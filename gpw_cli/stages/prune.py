"""prune: masks from the pre-trained weights, and the accuracy before any fine-tuning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gpw_cli.config.compose import to_plain
from gpw_cli.pruning.candidates import prunable_layers
from gpw_cli.pruning.groups import kept_bits
from gpw_cli.pruning.masks import PruneResult, apply_masks
from gpw_cli.pruning.permute import permute_channels, retained
from gpw_cli.stages.choose import Chosen, choose_masks
from gpw_cli.stages.inputs import pruning_tile
from gpw_cli.stages.network import (
    MASKS,
    evaluate,
    image_shape_of,
    load_network,
    save_network,
    save_weights,
)
from gpw_cli.stages.pipeline import Job

if TYPE_CHECKING:
    from torch import nn

LAYERS = "layers.json"
MAX_BITS = 65_536  # groups of a layer, at most, for its mask to be listed in layers.json


def build(job: Job) -> dict[str, Any]:
    """Masked weights, the masks, and counts by layer."""
    model, described = load_network(job.upstream["pretrain"], job.config)
    permuted = permuted_sets(job, model) if job.config.pruning.permute else {}
    chosen = choose_masks(job, model)
    for warning in chosen.result.warnings:
        job.services.listener.message(warning)
    apply_masks(model, chosen.masks)
    save_network(job.work, model, described)
    return {
        **to_plain(job.config.pruning),
        **permuted,
        **save_choice(job, chosen),
        "warnings": list(chosen.result.warnings),
        **evaluate(job, model),
    }


def permuted_sets(job: Job, model: nn.Module) -> dict[str, Any]:
    """Permute the channels of ``model``; returns the number of tensor sets that changed."""
    pruning = job.config.pruning
    names = prunable_layers(model, pruning.include_first, pruning.include_last)
    measure = retained(pruning.scheme, pruning.exact_sparsity, pruning_tile(job.config))
    return {"permuted": permute_channels(model, image_shape_of(job), names, measure)}


def save_choice(job: Job, chosen: Chosen) -> dict[str, Any]:
    """Write the masks and the counts by layer; returns the counts of the network."""
    save_weights(job.work / MASKS, chosen.masks)
    (job.work / LAYERS).write_text(json.dumps(_layers(chosen.result)))
    return {
        **chosen.measured,
        "groups_total": chosen.result.groups_total,
        "groups_removed": chosen.result.groups_removed,
        "sparsity_prunable": chosen.result.sparsity_prunable,
        "sparsity_network": chosen.result.sparsity_network,
    }


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
