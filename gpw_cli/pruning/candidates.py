"""The layers that may be pruned, and the saliency of their groups.

names = prunable_layers(model, include_first=False, include_last=False)
found = candidates(dict(model.named_parameters()), names, scheme=Scheme.gpw,
                   criterion=Criterion.l1, tile=(16, 16))
found[0].saliency                    # float64, one value per group
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gpw_cli.arrays import Floats
from gpw_cli.errors import UsageError
from gpw_cli.pruning.criteria import Criterion, group_saliency
from gpw_cli.pruning.groups import GroupLayout, Scheme, Tile, group_layout


def prunable_layers(model: nn.Module, include_first: bool, include_last: bool) -> list[str]:
    """Parameter names of the Conv2d and Linear weights that may be pruned, in module order.

    The first convolution, which reads the image, and the last convolution or linear layer, which
    is the classifier, are included only on request. Grouped and depthwise convolutions are never
    included, because a tile of B_in channels would cross their groups.
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
    """A prunable layer; ``saliency``: float64, of the shape of ``layout.grid`` (criteria.py)."""

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

    products: for a gradient criterion, the gradients times the weights of each layer, one tensor of
    the shape of the weight per batch. Raises UsageError for missing, unknown or repeated names, for
    weights that are not finite, and for a gradient criterion without ``products``.
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


def _check_names(weights: Mapping[str, Tensor], names: Sequence[str]) -> None:
    if not names:
        raise UsageError(
            "the network has no layer to prune: expected an nn.Conv2d without groups or an "
            "nn.Linear, with a weight of its own (no parametrization), besides the first and last; "
            "for those pruning.include_first=true and pruning.include_last=true, to prune nothing "
            "scheme=dense"
        )
    unknown = [name for name in names if name not in weights]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if unknown or repeated:
        what = f"unknown: {', '.join(unknown)}" if unknown else f"repeated: {', '.join(repeated)}"
        raise UsageError(f"layers to prune {what}; take the names from prunable_layers")


def _finite(name: str, weight: Tensor) -> Tensor:
    if not torch.isfinite(weight).all():
        raise UsageError(
            f"{name} holds NaN or infinite weights and cannot be ranked: "
            "use another checkpoint, e.g. pretrain.source=scratch"
        )
    return weight.detach().to("cpu", torch.float64)
