"""Tracing, verification and batch-norm folding: the graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import ForeignNet, MeanNet, ResNetLike, VggLike, randomise
from torch import Tensor, nn

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.ir import Add, AvgPool, BatchNorm, Clip, Conv, Graph, Input, Pad, ReLU, verify
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet

FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cifar A": (lambda: cifar_resnet(20, 10, "A"), 16),
    "cifar B": (lambda: cifar_resnet(20, 10, "B"), 16),
    "foreign": (ForeignNet, 12),
    "resnet18": (ResNetLike, 32),
    "resnet50": (lambda: ResNetLike(bottleneck=True), 32),
    "vgg bn": (VggLike, 16),
    "vgg": (lambda: VggLike(norm=False), 16),
    "mean": (MeanNet, 9),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_traced_and_folded_graphs_compute_what_the_module_computes(family: str) -> None:
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    model = randomise(build())
    x = torch.randn(3, 3, size, size, dtype=torch.float64)
    traced = trace(model, (3, size, size))
    folded = fold(traced)
    with torch.no_grad():
        expected = model.double()(x)
    assert not any(isinstance(node, BatchNorm) for node in folded.nodes)
    for graph in (traced, folded):
        torch.testing.assert_close(run_float(graph, x), expected, rtol=1e-10, atol=1e-10)


def test_names_are_module_paths() -> None:
    graph = fold(trace(cifar_resnet(20, 10, "A"), (3, 32, 32)))
    names = [node.name for node in graph.nodes]
    assert names[:4] == ["input", "conv1", "relu", "layer1.0.conv1"]
    assert "layer1.0.relu1" in names
    assert "layer1.0.add" in names
    assert graph.output == "linear"
    shortcut = graph.node("layer2.0.shortcut")
    assert isinstance(shortcut, Pad)
    assert (shortcut.stride, shortcut.before, shortcut.after) == ((2, 2), 8, 8)
    assert shortcut.shape == (32, 16, 16)
    assert sum(isinstance(node, Conv) for node in graph.nodes) == 20


def test_a_reused_module_gets_numbered_names() -> None:
    graph = trace(ResNetLike(), (3, 32, 32))
    names = [node.name for node in graph.nodes if isinstance(node, ReLU)]
    assert names[1:3] == ["layer1.0.relu", "layer1.0.relu_1"]


def test_a_linear_layer_is_a_convolution_over_the_whole_image() -> None:
    graph = trace(VggLike(), (3, 16, 16))
    layer = graph.node("classifier.0")
    assert isinstance(layer, Conv)
    assert layer.weight.shape == (20, 16, 4, 4)
    assert layer.shape == (20, 1, 1)


def test_the_model_is_left_as_it_is() -> None:
    model = cifar_resnet(20, 10).train()
    trace(model, (3, 16, 16), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    assert model.training
    assert trace(model, (3, 16, 16), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)).input.std[2] == 3.0


PLANE = torch.ones(1, 3, 8, 8)


class Wrong(nn.Module):
    """One layer called ``body`` around a function."""

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = Body(run)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Body(nn.Module):
    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.run = run
        self.depthwise = nn.Conv2d(3, 3, 3, groups=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.depthwise(x) if self.run is torch.abs_ else x)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (torch.sigmoid, "operator sigmoid at body is not supported"),
        (torch.abs_, "operator abs_ at body is not supported"),
        (lambda x: F.silu(x), "product of accumulators"),
        (lambda x: F.hardsigmoid(x), "diagonal convolution and a clip"),
        (lambda x: x.add(PLANE), "not one value per channel"),
        (lambda x: 1 / x, "reciprocal"),
        (lambda x: x * x, "operator mul at body"),
        (lambda x: x + x[:, :1], r"adds shapes \(3, 8, 8\) and \(1, 8, 8\)"),
        (lambda x: torch.cat([x, x], 2), "concatenates along dimension 2"),
        (lambda x: torch.cat([x.flatten(1), x.flatten(1)], 1), "along dimension 1; only"),
        (lambda x: F.relu_(x[:, :2]) + x[:, :2], "changes part of a tensor in place"),
        (lambda x: F.pad(x, (1, 1, 1, 1)), "pads"),
        (lambda x: F.max_pool2d(x, 3, 2, dilation=2), "is dilated"),
        (lambda x: F.adaptive_max_pool2d(x, 3), "windows differ in size"),
        (lambda x: x.mean(1), r"over dimensions \[1\]"),
        (lambda x: F.relu(x.reshape(2, 6, 4, 8)), r"makes \(2, 6, 4, 8\)"),
        (lambda x: F.relu(F.pixel_unshuffle(x, 2)), r"makes \(2, 12, 4, 4\)"),
        (lambda x: F.relu(x.roll(1, 0)), "from one image to another"),
        (lambda x: (x, x), "returns 2 tensors"),
        (lambda x: x if x.sum() > 0 else -x, "cannot be traced"),
        (lambda x: x @ torch.zeros(5, 5), "cannot be traced on images of shape"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    run: Callable[[Tensor], Tensor], words: str
) -> None:
    with pytest.raises(UnsupportedError, match=words) as caught:
        trace(Wrong(run), (3, 8, 8))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 or "operators are not supported:" in lines[0]


@pytest.mark.parametrize(
    "run",
    [
        lambda x: F.relu(x).flip(1),
        lambda x: F.relu(x)[:, 1:],
        lambda x: F.relu(x)[:, :2],
        lambda x: F.relu(x).flatten(1),
        lambda x: F.relu(x),
    ],
)
def test_an_output_that_is_a_view(run: Callable[[Tensor], Tensor]) -> None:
    graph = trace(Wrong(run), (3, 4, 6))
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    assert torch.equal(run_float(graph, x), run(x).flatten(1))


@pytest.mark.parametrize(("low", "kind"), [(0.0, ReLU), (0.5, Clip), (1.0, Clip)])
def test_a_clamp_from_zero_is_a_relu(low: float, kind: type) -> None:
    def run(x: Tensor) -> Tensor:
        return x.clamp(min=low)

    graph = trace(Wrong(run), (3, 4, 6))
    assert type(graph.node(graph.output)) is kind
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    assert torch.equal(run_float(graph, x), run(x).flatten(1))


class Several(nn.Module):
    """Two kinds of operators that nothing runs, one of them twice, and one with odd arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid())
        self.norm = nn.LayerNorm(6)
        self.last = nn.Sequential(nn.Sigmoid(), nn.Dropout())

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x).permute(0, 3, 2, 1).permute(0, 3, 2, 1))
        return self.last(x.split(2, 1)[0])


def test_everything_that_is_not_supported_is_listed_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        trace(Several(), (3, 8, 8))
    text = str(caught.value)
    assert "operator sigmoid at first.1, last.0 is not supported" in text
    assert "operator layer_norm at norm is not supported" in text
    assert text.splitlines()[0].startswith("Several: ")


def test_an_operator_behind_a_refused_one_is_checked_by_its_shape() -> None:
    with pytest.raises(UnsupportedError) as caught:
        trace(Wrong(lambda x: torch.cat([torch.sigmoid(x)] * 2, 2)), (3, 8, 8))
    assert "operator sigmoid" in str(caught.value)
    assert "concatenates along dimension 2" in str(caught.value)


def _tiny() -> Graph:
    first = Input("input", (1, 4, 4), (0.0,), (1.0,))
    conv = Conv("c", "input", np.ones((2, 1, 1, 1)), np.zeros(2), (1, 1), (0, 0), (2, 4, 4))
    return Graph((first, conv), "c")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda n: (n[0], replace(n[1], input="x")), "reads 'x'"),
        (lambda n: (n[0], replace(n[1], shape=(2, 3, 3))), "shape"),
        (lambda n: (n[0], replace(n[1], weight=np.full((2, 1, 1, 1), np.nan))), "NaN"),
        (lambda n: (n[0], replace(n[1], bias=np.zeros(3))), "bias"),
        (lambda n: (n[0], n[1], n[1]), "two tensors"),
        (lambda n: (n[0], n[1], ReLU("r", "c", (2, 4, 4))), "end it"),
        (lambda n: (n[0], n[1], Add("c2", "c", "input", (2, 4, 4))), "adds"),
        (lambda n: (n[1], n[0]), "input"),
        (lambda n: (n[0], AvgPool("c", "input", (5, 5), (1, 1), (0, 0), (1, 0, 0))), "shape"),
    ],
)
def test_verify_names_the_broken_node(change: Callable[..., tuple], words: str) -> None:
    good = _tiny()
    assert verify(good) is good
    with pytest.raises(UnsupportedError, match=words):
        verify(Graph(change(good.nodes), "c"))
