"""Masks: one-shot pruning of pre-trained weights by group score.

    names = prunable_layers(model, include_first=False, include_last=False)
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

from gpw_cli.arrays import Bools, Floats
from gpw_cli.errors import UsageError
from gpw_cli.pruning.allocation import CountRounding, Scope, Scored, select
from gpw_cli.pruning.criteria import Criterion, group_saliency, group_scores
from gpw_cli.pruning.groups import GroupLayout, Scheme, Shape, Tile, group_layout, group_sets


@dataclass(frozen=True, eq=False)
class LayerSparsity:
    """The result of pruning for a layer."""

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


def prunable_layers(model: nn.Module, include_first: bool, include_last: bool) -> list[str]:
    """Parameter names of the Conv2d and Linear weights that may be pruned, in module order.

    In module order, the first convolution (which reads the 3 channels of the image) and the last
    convolution or linear layer (the classifier) are included only on request. Grouped and depthwise
    convolutions are never included, because a tile of B_in channels would cross their groups.
    """
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first = next((n for n, m in found if isinstance(m, nn.Conv2d)), None)
    last = found[-1][0] if found else None
    left_out = {first} if not include_first else set()
    left_out |= {last} if not include_last else set()
    own = dict(model.named_parameters())  # a weight that modules share occurs once
    names = [
        f"{name}.weight".lstrip(".")
        for name, module in found
        if name not in left_out and not (isinstance(module, nn.Conv2d) and module.groups > 1)
    ]
    return [name for name in names if name in own]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A prunable layer; ``saliency``: float64 of shape ``layout.grid`` (criteria.py)."""

    name: str  # of the parameter
    layout: GroupLayout
    saliency: Floats


def candidates(
    weights: Mapping[str, Tensor],
    names: Sequence[str],
    *,
    scheme: Scheme,
    criterion: Criterion,
    tile: Tile,
    products: Mapping[str, Sequence[Tensor]] | None = None,
) -> list[Candidate]:
    """The layers ``names`` with the saliency of their groups.

    products: for a gradient criterion, gradient times weight of each layer, a tensor in the shape
    of the weight per batch. Raises UsageError as ``prune_masks`` does.
    """
    _check_names(weights, names)
    found = []
    for name in names:
        layout = group_layout(scheme, tuple(weights[name].shape), tile)
        values = [weights[name]]
        if criterion.gradients:
            values = list((products or {}).get(name, ()))
            if not values:
                raise UsageError(
                    f"criterion {criterion.value} needs gradients, and there are none for {name}: "
                    "use gpw prune, or pass products to prune_masks"
                )
        arrays = [_finite(name, value).reshape(layout.shape).numpy() for value in values]
        found.append(Candidate(name, layout, group_saliency(criterion, layout, *arrays)))
    return found


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
    Raises UsageError for missing, unknown or repeated names, and for weights that are not finite.
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
    """The masks and counts of ``layers`` that keep the groups ``kept`` (True)."""
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


def _check_names(weights: Mapping[str, Tensor], names: Sequence[str]) -> None:
    if not names:
        raise UsageError(
            "the network has no layer to prune: expected an ungrouped convolution or linear layer "
            "besides the first and last; try pruning.include_last=true"
        )
    unknown = [name for name in names if name not in weights]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if unknown or repeated:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"repeated: {', '.join(repeated)}"
        raise UsageError(f"layers to prune {what}; take the names from prunable_layers")


def _scored(layer: Candidate, criterion: Criterion, tile: Tile) -> Scored:
    scores = group_scores(criterion, layer.layout, layer.saliency)
    return Scored(scores, layer.layout.units(tile, positions=False))


def _one_a_block(layer: Candidate, tile: Tile) -> bool:
    blocks = layer.layout.units(tile, positions=False)
    return int(blocks.max()) + 1 == blocks.size


def _finite(name: str, weight: Tensor) -> Tensor:
    if not torch.isfinite(weight).all():
        raise UsageError(
            f"{name} holds NaN or infinite weights and cannot be ranked: "
            "use another checkpoint, e.g. pretrain.source=scratch"
        )
    return weight.detach().to("cpu", torch.float64)


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
