"""Edges of groups, masks, candidates, norms and permutations, in exact numbers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gpw_cli.errors import UsageError
from gpw_cli.graph.trace import trace
from gpw_cli.pruning.allocation import Scope, Scored, select
from gpw_cli.pruning.candidates import candidates, prunable_layers
from gpw_cli.pruning.criteria import Criterion
from gpw_cli.pruning.groups import GroupLayout, Scheme, conv_shape, group_layout
from gpw_cli.pruning.masks import PruneResult, apply_masks, masks_of, prune_masks
from gpw_cli.pruning.norms import shift_masks
from gpw_cli.pruning.permute import free_sets, permute_channels, retained


def pruned(
    weights: Mapping[str, Tensor], scope: str = "block", sparsity: str = "0.5"
) -> PruneResult:
    return prune_masks(
        weights,
        list(weights),
        scheme=Scheme.gpw,
        sparsity=Decimal(sparsity),
        scope=Scope[scope],
        criterion=Criterion.l1,
        tile=(2, 2),
    )


def test_which_schemes_depend_on_the_order_of_channels() -> None:
    assert {scheme.value for scheme in Scheme if scheme.grouping.has_order} == {
        "vector", "gpw", "block", "balanced",
    }  # fmt: skip
    assert {scheme.value for scheme in Scheme if scheme.grouping.packs} == {"channel"}


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (1, 2, 3, 4, 5), (0, 3), (2, 0), (2, 2, 0, 3)])
def test_weights_that_are_no_layer_s_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="cannot be pruned"):
        conv_shape(shape)


def test_the_smallest_tile_and_a_linear_layer() -> None:
    assert conv_shape((5, 7)) == (5, 7, 1, 1)
    layout = group_layout(Scheme.gpw, (5, 7), (1, 1))
    assert (layout.grid, layout.group) == ((5, 7, 1, 1), (1, 1, 1, 1))
    with pytest.raises(UsageError, match="tile 16x0 must be at least 1x1"):
        group_layout(Scheme.gpw, (5, 7), (16, 0))


def test_units_of_groups_wider_and_narrower_than_the_tile() -> None:
    wide = GroupLayout((4, 8, 1, 2), (4, 8, 1, 1))
    assert wide.units((2, 2)).ravel().tolist() == [0, 1]
    narrow = GroupLayout((4, 2, 1, 2), (1, 1, 1, 1))
    assert narrow.units((2, 2)).ravel().tolist() == [0, 1] * 4 + [2, 3] * 4
    assert narrow.units((2, 2), positions=False).ravel().tolist() == [0] * 8 + [1] * 8
    ragged = GroupLayout((5, 1, 1, 1), (2, 1, 1, 1))
    assert ragged.units((4, 1)).ravel().tolist() == [0, 0, 1]
    assert ragged.real_weights().ravel().tolist() == [2, 2, 1]


def test_a_block_of_one_group_is_no_choice_only_where_all_are() -> None:
    pointwise, wide = torch.ones(2, 2, 1, 1), torch.ones(2, 2, 1, 3)
    wide[..., 1] = 3
    result = pruned({"a": pointwise, "b": wide})
    assert [layer.removed for layer in result.layers] == [1, 2]
    assert result.layers[1].kept.ravel().tolist() == [False, True, False]
    assert result.warnings[0].startswith("1 of 2 layers lose every weight (a): ")
    with pytest.raises(UsageError, match="nothing to choose"):
        pruned({"a": pointwise})


def test_counts_of_layers_of_different_sizes() -> None:
    weights = {"a": torch.ones(4, 2, 1, 1), "b": torch.ones(2, 3), "bias": torch.ones(5)}
    found = candidates(weights, ["a", "b"], scheme=Scheme.gpw, criterion=Criterion.l1, tile=(2, 2))
    assert [layer.saliency.ravel().tolist() for layer in found] == [[4.0, 4.0], [4.0, 2.0]]
    kept = [
        np.array([True, False]).reshape(2, 1, 1, 1),
        np.array([[True, False]]).reshape(1, 2, 1, 1),
    ]
    result = masks_of(weights, found, kept)
    assert (result.groups_total, result.groups_removed) == (4, 2)
    assert [layer.weights_removed for layer in result.layers] == [4, 2]
    assert [layer.sparsity for layer in result.layers] == [4 / 8, 2 / 6]
    assert (result.sparsity_prunable, result.sparsity_network) == (6 / 14, 6 / 19)
    assert result.warnings == ()
    assert result.masks["b"].tolist() == [[True, True, False]] * 2
    assert {name: mask.dtype for name, mask in result.bools.items()} == {"a": bool, "b": bool}


def test_blocks_are_chosen_one_by_one_by_their_labels() -> None:
    scored = Scored(np.array([4.0, 1, 3, 2, 9, 8]), np.array([7, 7, 7, 7, 2, 2]))
    (kept,) = select(Scope.block, [scored], Decimal("0.5"))
    assert kept.tolist() == [True, False, True, False, True, False]


def test_shared_weights_are_pruned_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert prunable_layers(model, True, False) == ["0.weight"]
    assert prunable_layers(model, True, True) == ["0.weight", "2.weight"]
    depthwise_first = nn.Sequential(
        nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 2, 1), nn.Linear(2, 2)
    )
    assert prunable_layers(depthwise_first, False, False) == ["1.weight"]


def test_infinite_weights_are_refused_and_two_batches_of_products_taken() -> None:
    weight = torch.ones(2, 2)
    weight[0, 1] = torch.inf
    with pytest.raises(UsageError, match="w holds NaN or infinite"):
        pruned({"w": weight}, "layer")
    products = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])]
    (found,) = candidates(
        {"w": torch.ones(1, 2)},
        ["w"],
        scheme=Scheme.channel,
        criterion=Criterion.taylor,
        tile=(1, 1),
        products={"w": products},
    )
    assert found.saliency.ravel().tolist() == [(9 + 4) / 2]


def test_a_mask_on_a_network_in_another_order() -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"mask bias \[3\] does not fit the network \(\[2\]\)"):
        apply_masks(model, {"bias": torch.zeros(3).bool()})
    with pytest.raises(UsageError, match="no such parameter"):
        apply_masks(model, {"nothing": torch.zeros(3).bool()})


class Norms(nn.Module):
    """A norm behind two convolutions, one behind a sum, one behind a convolution alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.c, self.last = nn.Conv2d(4, 4, 1), nn.Linear(4, 2)
        self.both, self.summed, self.own = (nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.summed(self.both(self.a(x)) + self.both(self.b(x)))
        return self.last(self.own(self.c(y)).mean([2, 3]))


def test_a_norm_keeps_the_channels_that_any_of_its_inputs_has() -> None:
    model = Norms().train()
    masks = {
        f"{name}.weight": torch.ones(4, n, 1, 1).bool()
        for name, n in (("a", 3), ("b", 3), ("c", 4))
    }
    masks["a.weight"][[0, 1]] = False
    masks["b.weight"][[1, 2]] = False
    masks["c.weight"][3] = False
    found = shift_masks(model, masks, (3, 5, 5))
    assert model.training
    gone = {name: torch.nonzero(~mask).flatten().tolist() for name, mask in found.items()}
    assert gone == {
        "both.weight": [1], "both.bias": [1],
        "own.weight": [3], "own.bias": [3],
        "a.bias": [0, 1], "b.bias": [1, 2], "c.bias": [3],
    }  # fmt: skip
    assert all(mask.dtype == torch.bool for mask in found.values())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


class Pair(nn.Module):
    """Two pointwise convolutions with four channels between them, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([0.5, 5, 1, -4]).reshape(4, 1, 1, 1))
            self.a.bias.copy_(torch.tensor([10.0, 40, 20, 30]))
            b = torch.tensor([[4, 0.25, -4.5, 1], [0.75, 0, 0, 3]])
            self.b.weight.copy_(b.reshape(2, 4, 1, 1))
            self.norm.running_mean.copy_(torch.tensor([0.1, 0.4, 0.2, 0.3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


def permuted(*names: str) -> tuple[int, list[float], Pair]:
    """Where the first two channels count, in these layers."""

    def measure(name: str, weight: Tensor) -> float:
        rows = weight[:2] if name == "a.weight" else weight[:, :2]
        return float(rows.abs().sum())

    model = Pair().eval()
    changed = permute_channels(model, (1, 3, 3), names, measure)
    return changed, model.a.weight.flatten().tolist(), model


def test_channels_are_sorted_by_the_magnitude_that_keeps_most() -> None:
    changed, weights, model = permuted("a.weight")
    assert (changed, weights) == (1, [5.0, -4.0, 1.0, 0.5])  # by what computes them
    assert model.a.bias.tolist() == [40.0, 30.0, 20.0, 10.0]
    assert model.norm.running_mean.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert model.b.weight[0].flatten().tolist() == [0.25, 1.0, -4.5, 4.0]
    # 4.75, 0.25, 4.5 and 4 of what reads them; 5.25, 5.25, 5.5 and 8 of both
    assert permuted("b.weight")[:2] == (1, [0.5, 1.0, -4.0, 5.0])
    assert permuted("a.weight", "b.weight")[:2] == (1, [-4.0, 1.0, 0.5, 5.0])


def test_an_order_that_keeps_no_more_is_left() -> None:
    model = Pair().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert permute_channels(model, (1, 3, 3), ["a.weight"], lambda *_: 1.0) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert permuted("other.weight")[0] == 0


def test_what_a_measure_retains() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert retained(Scheme.fine, Decimal("0.5"), (1, 1))("w", weight) == 7.0
    assert retained(Scheme.vector, Decimal("0.5"), (2, 2))("w", weight) == 7.0
    assert retained(Scheme.fine, Decimal("0"), (1, 1))("w", weight) == 10.0


class Fixed(nn.Module):
    """One channel; layers that run twice; a grouped convolution; joined channels; a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.wide = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 4, 1)
        self.twice, self.grouped = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2)
        self.left, self.right, self.joins = (
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(4, 4, 1),
            nn.Conv2d(8, 4, 1),
        )
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(self.twice(self.wide(self.one(x))))
        y = self.grouped(y)
        y = self.joins(torch.cat([self.left(y), self.right(y)], 1))
        return self.last(y)


def test_channels_that_cannot_change_places() -> None:
    model = Fixed()
    found = free_sets(model, trace(model, (3, 4, 4)))
    assert [(free.makers, free.readers, free.channels) for free in found] == [
        (("one",), ("wide",), 1),
        (("joins",), ("last",), 4),
    ]
