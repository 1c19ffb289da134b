"""Zero channels leave the tensors; what is left fills fewer blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from conftest import Gpw
from float_graphs import random_graph, whole_images
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import randomise
from torch import nn

from gpw_cli.graph.compact import compact, tied_channels
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.ir import Conv, Graph, Input, Node, Pad
from gpw_cli.graph.moves import Concat, Select
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.pruning.masks import apply_masks
from gpw_cli.pruning.norms import shift_masks

IMAGE_SHAPE = (3, 16, 16)


def network(gone: dict[str, list[int]]) -> nn.Module:
    """ResNet-20 without the output channels ``gone`` of its convolutions."""
    torch.manual_seed(0)
    model = randomise(cifar_resnet(20, 10, "A"))
    masks = {
        f"{n}.weight": torch.ones_like(model.get_parameter(f"{n}.weight")).bool() for n in gone
    }
    for name, channels in gone.items():
        masks[f"{name}.weight"][channels] = False
    apply_masks(model, masks | shift_masks(model, masks, IMAGE_SHAPE))
    return model


def packed(model: nn.Module) -> tuple[Graph, Graph]:
    graph = remove_dead(fold(trace(model, IMAGE_SHAPE)))
    return graph, compact(graph)


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_logits_of_random_graphs_stay_the_same(seed: int, length: int) -> None:
    for graph in (random_graph(seed, length), remove_dead(random_graph(seed, length))):
        left = compact(graph)
        x = whole_images(graph)
        assert torch.equal(run_float(left, x), run_float(graph, x))


def test_random_graphs_lose_channels() -> None:
    graphs = [random_graph(seed) for seed in range(100)]
    before = sum(node.shape[0] for graph in graphs for node in graph.nodes)
    after = sum(node.shape[0] for graph in graphs for node in compact(graph).nodes)
    assert after < before * 0.9


def test_channels_inside_a_block_are_packed() -> None:
    gone = [c for c in range(64) if c % 5]
    graph, left = packed(network({"layer3.1.conv1": gone}))
    first, second = left.node("layer3.1.conv1"), left.node("layer3.1.conv2")
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    assert (first.weight.shape, second.weight.shape) == ((13, 64, 3, 3), (64, 13, 3, 3))
    whole = graph.node("layer3.1.conv1")
    assert isinstance(whole, Conv)
    assert np.array_equal(first.weight, whole.weight[::5])
    x = torch.randn(2, *IMAGE_SHAPE)
    torch.testing.assert_close(run_float(left, x), run_float(graph, x), rtol=1e-4, atol=1e-5)


def test_a_shortcut_loses_what_no_producer_makes() -> None:
    """Option A pads 16 channels with 8 zeros on either side: of stage 2 only those can go."""
    gone = {f"layer2.{block}.conv2": [0, 3, 9, 31] for block in range(3)}
    convs = list(gone)
    graph, left = packed(network(gone))
    assert left is graph  # stage 3 still makes the channels that these become
    gone |= {f"layer3.{block}.conv2": [16, 19, 25, 47] for block in range(3)}
    graph, left = packed(network(gone))
    pad = left.node("layer2.0.shortcut")
    assert isinstance(pad, Pad)
    assert (pad.before, pad.after, pad.shape[0]) == (6, 7, 29)
    after = left.node("layer3.0.shortcut")
    assert isinstance(after, Pad)
    assert (after.before, after.after, after.shape[0]) == (16, 16, 61)
    for name in convs:
        conv = left.node(name)
        assert isinstance(conv, Conv)
        assert conv.weight.shape[0] == 29
        assert not conv.weight[9 - 2].any()  # channel 9 comes by the shortcut
    x = torch.randn(2, *IMAGE_SHAPE)
    torch.testing.assert_close(run_float(left, x), run_float(graph, x), rtol=1e-4, atol=1e-5)


def test_joined_and_chosen_channels_keep_their_order() -> None:
    rng = np.random.default_rng(0)

    def conv(name: str, source: str, shape: tuple[int, int], dead: list[int]) -> Conv:
        weight = rng.integers(-2, 3, (*shape, 1, 1)).astype(float)
        weight[dead] = 0.0
        return Conv(name, source, weight, np.zeros(shape[0]), (1, 1), (0, 0), (shape[0], 6, 6))

    nodes: tuple[Node, ...] = (
        Input("input", (3, 6, 6), (0.0,) * 3, (1.0,) * 3),
        conv("a", "input", (4, 3), [1]),
        conv("b", "input", (3, 3), [0, 2]),
        Concat("ab", ("a", "b"), (7, 6, 6)),
        Select("chosen", "ab", np.array([5, 1, 3, 4, 0]), (5, 6, 6)),
        replace(conv("out", "chosen", (2, 5), []), shape=(2, 6, 6)),
    )
    graph = Graph(nodes, "out")
    left = compact(graph)
    chosen = left.node("chosen")
    assert isinstance(chosen, Select)
    assert chosen.channels.tolist() == [3, 2, 0]
    assert left.node("ab").shape[0] == 4
    x = whole_images(graph)
    assert torch.equal(run_float(left, x), run_float(graph, x))


def test_channels_are_tied_through_additions() -> None:
    ids = tied_channels(fold(trace(cifar_resnet(20, 10, "A"), IMAGE_SHAPE)))
    assert np.array_equal(ids["relu"], ids["layer1.2.conv2"])
    assert np.array_equal(ids["relu"], ids["layer2.2.relu2"][8:24])
    assert not set(ids["layer1.0.conv1"]) & set(ids["relu"])


def test_channel_runs_faster_when_packed(gpw: Gpw) -> None:
    def cycles(*overrides: str) -> int:
        epochs = ("pretrain.train.epochs=0", "finetune.train.epochs=0")
        ran = gpw("run", "data=digits", *epochs, "simulate.images=4", "--json", *overrides)
        assert ran.code == 0, ran.err
        count: int = ran.json["simulate"]["metrics"]["cycles"]
        return count

    pruned = ("scheme=channel", "sparsity=0.9")
    assert cycles(*pruned) * 2 < cycles(*pruned, "pruning.keep_shift=true")


def test_a_network_without_zero_channels_comes_back_as_it_is() -> None:
    graph = fold(trace(randomise(cifar_resnet(20, 10, "B")), IMAGE_SHAPE))
    assert compact(graph) is graph
