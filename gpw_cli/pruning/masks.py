"""Masks: one-shot pruning of pre-trained weights by group score.

    names = prunable_layers(model, include_first=False, include_last=False)   # candidates.py
    result = prune_masks(dict(model.named_parameters()), names, scheme=Scheme.gpw,
                         sparsity=Decimal("0.7"), scope=Scope.layer,
                         criterion=Criterion.l1, tile=(16, 16))
    apply_masks(model, result.masks)

A mask may remove a whole layer. In a residual network the shortcut remains. Otherwise the output of
the layer is only its bias, so ``PruneResult.warnings`` names such layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import torch
from torch import Tensor, nn

from gpw_cli.arrays import Bools
from gpw_cli.errors import UsageError
from gpw_cli.pruning.allocation import CountRounding, Scope, Scored, select
from gpw_cli.pruning.candidates import Candidate, candidates
from gpw_cli.pruning.criteria import Criterion, group_scores
from gpw_cli.pruning.groups import GroupLayout, Scheme, Shape, Tile, group_sets


@dataclass(frozen=True, eq=False)
class LayerSparsity:
    """How much of one layer was removed."""

    name: str  # of the parameter, such as layer1.0.conv1.weight
    shape: Shape  # O, I, KH, KW (linear: KH = KW = 1)
    grid: Shape  # groups along the same axes
    groups: int
    removed: int  # groups
    weights: int
    weights_removed: int
    kept: Bools  # of shape grid

    @property
    def sparsity(self) -> float:
        """The share of removed weights."""
        return self.weights_removed / self.weights


@dataclass(frozen=True, eq=False)
class PruneResult:
    """Masks and exact counts."""

    masks: dict[str, Tensor]  # parameter name -> bool of the weight's shape, True: kept; on the CPU
    layers: tuple[LayerSparsity, ...]  # in the order of the names given
    groups_total: int
    groups_removed: int
    sparsity_prunable: float  # removed weights / weights of the pruned layers
    sparsity_network: float  # removed weights / elements of all parameters
    warnings: tuple[str, ...]

    @property
    def bools(self) -> dict[str, Bools]:
        """``masks`` as arrays."""
        return {name: mask.numpy() for name, mask in self.masks.items()}


def prune_masks(
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    scheme: Scheme,
    sparsity: Decimal,
    scope: Scope,
    criterion: Criterion,
    tile: Tile,
    rounding: CountRounding = CountRounding.nearest,
    products: Mapping[str, Sequence[Tensor]] | None = None,
) -> PruneResult:
    """Masks for the layers ``names`` of a network with the parameters ``weights``.

    weights: all parameters of the network by name; only those in ``names`` are pruned.
    sparsity: in [0, 1); 0 keeps everything. tile: (B_out, B_in) of the target's GEMM.
    scope: not ``cycles`` (budget.py), and ``layer`` for a scheme with sets. products: see
    ``candidates``. The result depends only on these arguments.
    Raises UsageError as ``candidates`` does, and for a scope that leaves nothing to choose.
    """
    found = candidates(
        weights, names, scheme=scheme, criterion=criterion, tile=tile, products=products
    )
    if scope is Scope.block and all(_one_a_block(layer, tile) for layer in found):
        raise UsageError(
            f"scope=block with scheme={scheme.value}: each block of channels is one group, so "
            "there is nothing to choose; use scheme=gpw, vector or fine, or scope=layer"
        )
    scored = [_scored(layer, criterion, tile) for layer in found]
    if scheme.grouping.sets is not None:
        scope = Scope.block  # each set on its own
        own = [group_sets(scheme, layer.layout, tile) for layer in found]
        scored = [replace(layer, blocks=rows) for layer, rows in zip(scored, own, strict=True)]
    kept = select(scope, scored, sparsity, rounding)
    return masks_of(weights, found, kept)


def masks_of(
    weights: Mapping[str, Tensor], layers: Sequence[Candidate], kept: Sequence[Bools]
) -> PruneResult:
    """The masks and counts when ``layers`` keep the groups that are True in ``kept``."""
    counts, masks = [], {}
    for layer, groups in zip(layers, kept, strict=True):
        mask = layer.layout.expand(groups)
        counts.append(_count(layer.name, layer.layout, groups, mask))
        masks[layer.name] = torch.from_numpy(mask.reshape(tuple(weights[layer.name].shape)))
    return _result(masks, counts, sum(weight.numel() for weight in weights.values()))


def apply_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the masked weights of ``model`` to +0, in place.

    Raises UsageError, before any change, for a mask whose name or shape is not in the model.
    """
    own = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in own or own[name].shape != mask.shape:
            here = list(own[name].shape) if name in own else "no such parameter"
            raise UsageError(
                f"mask {name} {list(mask.shape)} does not fit the network ({here}): "
                "take masks and network from the same run of gpw prune"
            )
    with torch.no_grad():
        for name, mask in masks.items():
            own[name].masked_fill_(~mask.to(own[name].device), 0.0)


def _scored(layer: Candidate, criterion: Criterion, tile: Tile) -> Scored:
    scores = group_scores(criterion, layer.layout, layer.saliency)
    return Scored(scores, layer.layout.units(tile, positions=False))


def _one_a_block(layer: Candidate, tile: Tile) -> bool:
    blocks = layer.layout.units(tile, positions=False)
    return int(blocks.max()) + 1 == blocks.size


def _count(name: str, layout: GroupLayout, kept: Bools, mask: Bools) -> LayerSparsity:
    return LayerSparsity(
        name=name,
        shape=layout.shape,
        grid=layout.grid,
        groups=kept.size,
        removed=int((~kept).sum()),
        weights=mask.size,
        weights_removed=int((~mask).sum()),
        kept=kept,
    )


def _result(
    masks: dict[str, Tensor], layers: Sequence[LayerSparsity], parameters: int
) -> PruneResult:
    removed = sum(layer.weights_removed for layer in layers)
    return PruneResult(
        masks=masks,
        layers=tuple(layers),
        groups_total=sum(layer.groups for layer in layers),
        groups_removed=sum(layer.removed for layer in layers),
        sparsity_prunable=removed / sum(layer.weights for layer in layers),
        sparsity_network=removed / parameters,
        warnings=_warnings(layers),
    )


def _warnings(layers: Sequence[LayerSparsity]) -> tuple[str, ...]:
    emptied = [layer.name.removesuffix(".weight") for layer in layers if not layer.kept.any()]
    if not emptied:
        return ()
    return (
        f"{len(emptied)} of {len(layers)} layers lose every weight ({', '.join(emptied)}): only a "
        "shortcut around them still carries the signal; a network without one then guesses",
    )
