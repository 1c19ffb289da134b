from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gpw_cli.errors import UsageError
from gpw_cli.models.cifar_resnet import CifarResNet, cifar_resnet
from gpw_cli.pruning.allocation import CountRounding, Scope, Scored, removed_count, select
from gpw_cli.pruning.candidates import prunable_layers
from gpw_cli.pruning.criteria import Criterion, group_saliency, group_scores
from gpw_cli.pruning.groups import Scheme, group_layout, kept_bits
from gpw_cli.pruning.masks import PruneResult, apply_masks, prune_masks

TILE = (16, 16)
# balanced has counts of its own, by PE
schemes = st.sampled_from([s for s in Scheme if s not in (Scheme.dense, Scheme.balanced)])
tiles = st.tuples(st.integers(1, 9), st.integers(1, 9))
conv_shapes = st.tuples(*(st.integers(1, n) for n in (20, 20, 3, 3)))
shapes = st.one_of(conv_shapes, st.tuples(st.integers(1, 20), st.integers(1, 20)))
sparsities = st.integers(0, 999).map(lambda n: str(Decimal(n).scaleb(-3)))


def weight_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prune(
    weights: dict[str, Tensor],
    scheme: str = "gpw",
    sparsity: str = "0.5",
    scope: str = "layer",
    criterion: str = "l1",
    tile: tuple[int, int] = TILE,
    names: list[str] | None = None,
) -> PruneResult:
    return prune_masks(
        weights,
        list(weights) if names is None else names,
        scheme=Scheme[scheme],
        sparsity=Decimal(sparsity),
        scope=Scope[scope],
        criterion=Criterion[criterion],
        tile=tile,
        products={name: [weight] for name, weight in weights.items()},
    )


def scored(*layers: Sequence[float]) -> list[Scored]:
    return [Scored(np.asarray(layer, float), np.zeros(len(layer), np.int64)) for layer in layers]


def resnet20() -> CifarResNet:
    torch.manual_seed(0)
    return cifar_resnet(20, 10)


def prune_resnet(scheme: str, sparsity: str, scope: str = "layer") -> PruneResult:
    model = resnet20()
    names = prunable_layers(model, include_first=False, include_last=False)
    return prune(dict(model.named_parameters()), scheme, sparsity, scope, names=names)


def group_of_each_weight(
    scheme: str, shape: tuple[int, ...], tile: tuple[int, int]
) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    """The definition in words, weight by weight."""
    b_out, b_in = tile
    key: Callable[[int, int, int, int], tuple[int, ...]] = {
        "fine": lambda o, i, y, x: (o, i, y, x),
        "vector": lambda o, i, y, x: (o, i // b_in, y, x),
        "gpw": lambda o, i, y, x: (o // b_out, i // b_in, y, x),
        "block": lambda o, i, y, x: (o // b_out, i // b_in, 0, 0),
        "channel": lambda o, i, y, x: (o, 0, 0, 0),
    }[scheme]
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for place in np.ndindex(*(shape if len(shape) == 4 else (*shape, 1, 1))):
        groups.setdefault(key(*place), []).append(place)
    return groups


@pytest.mark.parametrize(("rows", "pes"), [(8, 4), (10, 4), (3, 8)])
def test_balanced_keeps_the_same_share_on_every_pe(rows: int, pes: int) -> None:
    """ESE: within the rows of one PE the smallest weights go, whatever other PEs hold."""
    weight = torch.arange(1.0, rows * 10 + 1).reshape(rows, 10)
    masks = prune_masks(
        {"w": weight}, ["w"], scheme=Scheme.balanced, sparsity=Decimal("0.7"),
        scope=Scope.layer, criterion=Criterion.l1,
        tile=(pes, 1),
    )  # fmt: skip
    kept = masks.masks["w"]
    for pe in range(min(pes, rows)):
        own, values = kept[pe::pes], weight[pe::pes]
        assert int(own.sum()) == round(0.3 * own.numel())
        assert values[own].min() > values[~own].max()
    fine = prune_masks(
        {"w": weight}, ["w"], scheme=Scheme.fine, sparsity=Decimal("0.7"),
        scope=Scope.layer, criterion=Criterion.l1,
        tile=(pes, 1),
    )  # fmt: skip
    assert fine.layers[0].removed == 7 * rows
    assert int(fine.masks["w"][0].sum()) == 0


@settings(max_examples=60, deadline=None)
@given(schemes, shapes, tiles)
def test_groups_scores_and_masks_follow_the_definition(
    scheme: str, shape: tuple[int, ...], tile: tuple[int, int]
) -> None:
    layout = group_layout(scheme, shape, tile)
    weight = weight_of(shape).reshape(layout.shape).numpy()
    members = group_of_each_weight(scheme, shape, tile)
    assert sorted(members) == list(np.ndindex(*layout.grid))
    l1, l2, taylor = (
        group_scores(name, layout, group_saliency(name, layout, weight)) for name in Criterion
    )
    for group, places in members.items():
        values = np.array([weight[place] for place in places], np.float64)
        assert layout.real_weights()[group] == len(places)
        assert l1[group] == pytest.approx(np.abs(values).mean(), rel=1e-12)
        assert l2[group] == pytest.approx(np.sqrt((values**2).mean()), rel=1e-12)
        assert taylor[group] == pytest.approx(values.sum() ** 2 / len(places), rel=1e-9, abs=1e-18)
    kept = np.random.default_rng(0).random(layout.grid) < 0.5
    mask = layout.expand(kept)
    assert mask.shape == layout.shape
    for group, places in members.items():
        assert {bool(mask[place]) for place in places} == {bool(kept[group])}


@settings(max_examples=60, deadline=None)
@given(schemes, shapes, tiles, sparsities, st.sampled_from(Criterion))
def test_counts_are_exact(
    scheme: str, shape: tuple[int, ...], tile: tuple[int, int], sparsity: str, criterion: str
) -> None:
    weights = {"w": weight_of(shape), "bias": torch.ones(7)}
    result = prune(weights, scheme, sparsity, criterion=criterion, tile=tile, names=["w"])
    (layer,) = result.layers
    assert layer.groups == result.groups_total == layer.kept.size
    assert layer.removed == (Fraction(sparsity) * layer.groups + Fraction(1, 2)).__floor__()
    assert result.groups_removed == layer.removed == int((~layer.kept).sum())
    zeros = int((~result.masks["w"]).sum())
    assert result.masks["w"].shape == shape
    assert layer.weights_removed == zeros
    assert layer.sparsity == result.sparsity_prunable == zeros / weights["w"].numel()
    assert result.sparsity_network == zeros / (weights["w"].numel() + 7)


@settings(max_examples=40, deadline=None)
@given(schemes, st.lists(shapes, min_size=1, max_size=3), tiles, sparsities, sparsities)
def test_a_higher_sparsity_removes_a_superset(
    scheme: str, found: list[tuple[int, ...]], tile: tuple[int, int], one: str, two: str
) -> None:
    # Few distinct values: most scores tie.
    weights = {str(n): weight_of(s, n).sign() for n, s in enumerate(found)}
    low, high = sorted((one, two), key=Decimal)
    for scope in ("layer", "global"):
        less = prune(weights, scheme, low, scope, tile=tile)
        more = prune(weights, scheme, high, scope, tile=tile)
        again = prune(weights, scheme, high, scope, tile=tile)
        for name in weights:
            assert not (more.masks[name] & ~less.masks[name]).any()
            assert torch.equal(more.masks[name], again.masks[name])


@settings(max_examples=40, deadline=None)
@given(conv_shapes, tiles, sparsities)
def test_coarser_masks_are_unions_of_finer_groups(
    shape: tuple[int, int, int, int], tile: tuple[int, int], sparsity: str
) -> None:
    weights = {"w": weight_of(shape)}
    for coarse, fine in [("block", "gpw"), ("gpw", "vector"), ("channel", "vector")]:
        mask = prune(weights, coarse, sparsity, tile=tile).masks["w"].numpy()
        layout = group_layout(Scheme[fine], shape, tile)
        per_group = layout.collect(mask).sum(0)
        whole = per_group == layout.real_weights()
        assert np.array_equal(layout.expand(whole), mask)
        assert ((per_group == 0) | whole).all()


def test_ties_go_by_layer_then_position() -> None:
    weights = {"b": torch.ones(2, 2), "a": torch.ones(2, 2)}
    layer = prune(weights, "fine", "0.5")
    everywhere = prune(weights, "fine", "0.625", "global")
    assert [found.name for found in layer.layers] == ["b", "a"]
    assert layer.masks["a"].tolist() == [[False, False], [True, True]]
    assert everywhere.masks["b"].tolist() == [[False, False], [False, False]]
    assert everywhere.masks["a"].tolist() == [[False, True], [True, True]]


def test_memory_order_and_dtype_change_nothing() -> None:
    weight = weight_of((40, 24, 3, 3)).to(torch.bfloat16)
    same = [weight, weight.to(memory_format=torch.channels_last), weight.double()]
    masks = [prune({"w": w}, "gpw", "0.6", criterion="l2").masks["w"] for w in same]
    assert all(torch.equal(one, two) and one.is_contiguous() for one, two in pairwise(masks))


def test_ragged_groups_compare_by_the_mean() -> None:
    weight = torch.ones(17, 16)
    weight[16] = 2.0  # one row of 16 weights: a smaller sum, a larger mean
    for criterion in ("l1", "l2"):
        mask = prune({"w": weight}, criterion=criterion).masks["w"]
        assert mask.sum(1).tolist() == [0] * 16 + [16]


def test_scope_block_keeps_as_many_positions_of_every_block_of_channels() -> None:
    weights = {"a": weight_of((40, 32, 3, 3)), "b": weight_of((16, 16, 3, 3), 1)}
    result = prune(weights, "gpw", "0.5", "block")
    for layer in result.layers:
        assert (layer.kept.sum((2, 3)) == 4).all()  # 9 positions, 4.5 rounded up to 5 go
    fine = prune(weights, "fine", "0.75", "block").layers[1]
    assert fine.removed == 1728
    assert [layer.removed for layer in prune(weights, "gpw", "0.9", "block").layers] == [48, 8]
    with pytest.raises(UsageError, match="nothing to choose; use scheme=gpw"):
        prune(weights, "block", "0.5", "block")


def test_taylor_needs_products_and_averages_batches() -> None:
    layout = group_layout(Scheme.channel, (2, 3), TILE)
    batches = [np.array([[1.0, 2, 3], [1, -1, 0]]), np.array([[0.0, 0, 2], [3, 0, 0]])]
    saliency = group_saliency(Criterion.taylor, layout, *(b.reshape(layout.shape) for b in batches))
    assert saliency.ravel().tolist() == [(36 + 4) / 2, (0 + 9) / 2]
    with pytest.raises(UsageError, match="needs gradients"):
        prune_masks(
            {"w": torch.ones(4, 4)},
            ["w"],
            scheme=Scheme.fine,
            sparsity=Decimal("0.5"),
            scope=Scope.layer,
            criterion=Criterion.taylor,
            tile=TILE,
        )


def test_global_scope_ranks_all_layers_together() -> None:
    weights = {"large": 5 + weight_of((4, 4)).abs(), "small": weight_of((4, 4)).abs() / 10}
    result = prune(weights, "channel", "0.75", "global")
    assert [layer.removed for layer in result.layers] == [2, 4]
    assert result.groups_removed == 6
    assert len(result.warnings) == 1
    assert "small" in result.warnings[0]
    assert "large" not in result.warnings[0]
    kept = select(Scope["global"], scored([3.0, 1.0], [2.0]), Decimal("0.5"))
    assert [part.tolist() for part in kept] == [[True, False], [False]]


@pytest.mark.parametrize(
    ("sparsity", "groups", "removed"),
    [
        ("0", 10, 0),
        ("0.5", 9, 5),
        ("0.5", 1, 1),
        ("0.49", 1, 0),
        ("0.7", 45, 32),  # binary floating point says 31
        ("0.05", 10, 1),
        ("0." + "4" * 60, 10**9, 444_444_444),
        ("0.4" + "9" * 60, 1, 0),
        ("1e-999999", 10**9, 0),
        ("-0", 3, 0),
        ("0.999", 3, 3),
    ],
)
def test_removed_count_is_exact(sparsity: str, groups: int, removed: int) -> None:
    assert removed_count(Decimal(sparsity), groups) == removed


@given(sparsities, st.integers(0, 5000))
def test_roundings_of_the_count(sparsity: str, groups: int) -> None:
    wanted = Decimal(sparsity)
    exact = Fraction(wanted) * groups
    counts = {name: removed_count(wanted, groups, name) for name in CountRounding}
    assert counts == {
        "nearest": math.floor(exact + Fraction(1, 2)),
        "floor": math.floor(exact),
        "ceil": math.ceil(exact),
    }


def test_floor_never_removes_a_whole_layer() -> None:
    layers = scored(*(np.arange(n, dtype=float) for n in (1, 2, 4, 16)))
    removed = {
        name: [int((~kept).sum()) for kept in select(Scope.layer, layers, Decimal("0.9"), name)]
        for name in CountRounding
    }
    assert removed == {"nearest": [1, 2, 4, 14], "floor": [0, 1, 3, 14], "ceil": [1, 2, 4, 15]}


def test_resnet20_has_the_published_group_counts() -> None:
    expected = {"gpw": 1_044, "block": 116, "vector": 16_704, "fine": 267_264, "channel": 672}
    for scheme, groups in expected.items():
        result = prune_resnet(scheme, "0.5")
        assert len(result.layers) == 18
        assert result.groups_total == groups
    assert result.layers[0].name == "layer1.0.conv1.weight"
    assert result.layers[-1].name == "layer3.2.conv2.weight"


def test_resnet20_layer_scope_counts() -> None:
    gpw, block = prune_resnet("gpw", "0.5"), prune_resnet("block", "0.5")
    assert gpw.layers[0].grid == (1, 1, 3, 3)
    assert [layer.removed for layer in gpw.layers] == [5] * 6 + [9] + [18] * 5 + [36] + [72] * 5
    assert [layer.removed for layer in block.layers] == [1] * 6 + [1] + [2] * 5 + [4] + [8] * 5
    assert gpw.groups_removed == 525
    assert gpw.sparsity_prunable == 525 / 1_044
    assert gpw.sparsity_network == 525 * 256 / 269_722
    assert gpw.warnings == ()
    assert block.warnings[0].startswith("6 of 18 layers lose every weight (layer1.0.conv1, ")


def test_sparsity_zero_keeps_everything() -> None:
    result = prune_resnet("block", "0.0", "global")
    assert all(mask.all() for mask in result.masks.values())
    assert (result.groups_removed, result.sparsity_network, result.warnings) == (0, 0.0, ())


def test_prunable_layers_by_module_order() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 1),
        nn.Flatten(),
        nn.Linear(8, 8),
        nn.Linear(8, 4),
    )
    assert prunable_layers(model, False, False) == ["2.weight", "4.weight"]
    assert prunable_layers(model, True, False) == ["0.weight", "2.weight", "4.weight"]
    assert prunable_layers(model, True, True)[-1] == "5.weight"
    ends = prunable_layers(resnet20(), True, True)
    assert (ends[0], ends[-1], len(ends)) == ("conv1.weight", "linear.weight", 20)
    assert prunable_layers(nn.Linear(2, 2), False, True) == ["weight"]
    assert prunable_layers(nn.ReLU(), True, True) == []


def test_first_layer_and_classifier_have_ragged_groups() -> None:
    model = resnet20()
    names = prunable_layers(model, True, True)
    result = prune(dict(model.named_parameters()), "gpw", "0.5", names=names)
    assert (result.layers[0].shape, result.layers[0].grid) == ((16, 3, 3, 3), (1, 1, 3, 3))
    assert (result.layers[-1].shape, result.layers[-1].grid) == ((10, 64, 1, 1), (1, 4, 1, 1))
    assert result.layers[0].weights_removed == 5 * 16 * 3
    assert result.masks["linear.weight"].shape == (10, 64)


def test_apply_masks_zeroes_exactly_the_masked() -> None:
    model = resnet20()
    before = {name: value.clone() for name, value in model.named_parameters()}
    result = prune_resnet("gpw", "0.7")
    apply_masks(model, result.masks)
    for name, value in model.named_parameters():
        kept = result.masks.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value, torch.where(kept, before[name], torch.zeros(())))
        assert not torch.signbit(value[~kept]).any()


def test_masks_of_another_network_change_nothing() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    for masks in ({"weight": torch.zeros(3, 2).bool()}, {"other": torch.zeros(2, 2).bool()}):
        with pytest.raises(UsageError, match="does not fit the network"):
            apply_masks(model, {"weight": torch.zeros(2, 2).bool(), **masks})
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"tile": (0, 16)}, "tile 0x16"),
        ({"names": []}, "no layer to prune"),
        ({"names": ["v"]}, "unknown: v"),
        ({"names": ["w", "w"]}, "repeated: w"),
        ({"weights": {"w": torch.ones(3)}}, r"shape \[3\]"),
        ({"weights": {"w": torch.full((2, 2), torch.nan)}}, "w holds NaN"),
    ],
)
def test_bad_input_names_what_is_allowed(changed: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        prune(**{"weights": {"w": torch.ones(2, 2)}, **changed})  # type: ignore[arg-type]


@given(st.tuples(*(st.integers(1, 4) for _ in range(4))), st.integers(0, 2**32))
def test_bits_of_a_mask_and_zeros_up_to_a_byte(grid: tuple[int, int, int, int], seed: int) -> None:
    kept = np.random.default_rng(seed).random(grid) < 0.5
    text = kept_bits(kept)
    bits = f"{int(text, 16):0{4 * len(text)}b}"
    assert len(bits) == -(-kept.size // 8) * 8
    assert [bit == "1" for bit in bits] == [*kept.ravel(), *[False] * (len(bits) - kept.size)]


def test_bits_are_in_c_order_high_bit_first() -> None:
    kept = np.array([[True, False, True], [False, False, True], [False, False, True]])
    assert kept_bits(kept) == "a480"
