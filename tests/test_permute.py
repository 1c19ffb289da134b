"""Channels that change places before pruning: the same function, and no less is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal

import pytest
import torch
from conftest import Gpw, Ran
from networks import ForeignNet, ResNetLike, VggLike, randomise
from torch import nn

from gpw_cli.config.compose import compose
from gpw_cli.errors import UsageError
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.pruning.candidates import prunable_layers
from gpw_cli.pruning.groups import Scheme
from gpw_cli.pruning.permute import free_sets, permute_channels, retained
from gpw_cli.stages.pipeline import plan

TILE = (4, 4)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "option A": (lambda: cifar_resnet(20, 10, "A"), 16),
    "option B": (lambda: cifar_resnet(20, 10, "B"), 16),
    "resnet": (ResNetLike, 32),
    "vgg": (VggLike, 16),
    "foreign": (ForeignNet, 12),
}


def network(family: str) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    build, size = NETWORKS[family]
    return randomise(build()), size


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("sparsity", ["0.7", "0.9"])
def test_the_function_stays_and_no_less_is_kept(family: str, sparsity: str) -> None:
    model, size = network(family)
    names = prunable_layers(model, False, False)
    measure = retained(Scheme.gpw, Decimal(sparsity), TILE)
    x = torch.randn(2, 3, size, size)

    def kept() -> float:
        return sum(measure(name, model.get_parameter(name)) for name in names)

    before, weights, expected = kept(), copy.deepcopy(model.state_dict()), model(x)
    changed = permute_channels(model, (3, size, size), names, measure)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert changed > 0
    assert kept() > before
    for name, value in model.state_dict().items():  # the same numbers in other places
        assert torch.equal(value.flatten().sort()[0], weights[name].flatten().sort()[0])


def test_padded_shortcuts_keep_their_order() -> None:
    model, size = network("option A")
    sets = free_sets(model, trace(model, (3, size, size)))
    assert [(free.makers, free.readers, free.channels) for free in sets] == [
        ((f"layer{stage}.{block}.conv1",), (f"layer{stage}.{block}.conv2",), 8 << stage)
        for stage in (1, 2, 3)
        for block in (0, 1, 2)
    ]
    projected, size = network("option B")
    sets = free_sets(projected, trace(projected, (3, size, size)))
    assert len(sets) == 12  # and the three stages
    assert {len(free.makers) for free in sets} == {1, 4}


def test_a_network_without_free_channels_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(
        UsageError, match=r"no channels of this network can be permuted .*permute=false"
    ):
        permute_channels(model, (3, 8, 8), ["0.weight"], lambda *_: 0.0)


def test_keys_and_refusals(gpw: Gpw, one_line: Callable[[Ran], str]) -> None:
    def keys(*overrides: str) -> list[str]:
        return [step.key for step in plan(compose(["scheme=gpw", *overrides]))]

    assert keys("pruning.permute=false") == keys()
    assert keys("pruning.permute=true")[1:] != keys()[1:]
    line = one_line(gpw("run", "data=digits", "scheme=channel", "pruning.permute=true"))
    assert "scheme=channel" in line
