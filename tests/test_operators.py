"""Every operator in a tiny network: the graph computes it, and VTA computes the integer graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import randomise
from torch import Tensor, nn
from vta_programs import compile_graph, vta_spec

from gpw_cli.config.compose import compose
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.integer import IntConcat, IntConv, IntGraph, IntSelect, IntUpsample
from gpw_cli.graph.integer_io import load, save
from gpw_cli.graph.trace import trace
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input, run
from gpw_cli.targets.vta.functional.simulator import simulate
from gpw_cli.targets.vta.isa.program import Program

SIZE = 12
CHANNELS = 24  # a block and a half: ragged


class Around(nn.Module):
    """A convolution, ``middle``, a convolution and a classifier."""

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU())
        self.middle = middle
        with torch.no_grad():
            channels = self.middle.eval()(torch.zeros(1, CHANNELS, SIZE, SIZE)).shape[1]
        self.conv = nn.Conv2d(channels, 20, 3, padding=1)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.conv(self.middle(self.stem(x)))))


class Run(nn.Module):
    """``run`` with the layers that it needs."""

    def __init__(self, run: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.run, self.layers = run, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, *self.layers)


class ShuffleUnit(nn.Module):
    """As ShuffleNet-V2: half of the channels pass, then all are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        half = CHANNELS // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        out = torch.cat((first, self.branch(second)), dim=1)
        count, channels, high, wide = out.shape
        out = out.view(count, 2, channels // 2, high, wide).transpose(1, 2).contiguous()
        return out.view(count, channels, high, wide)


def conv(*arguments: int, **options: object) -> nn.Module:
    return nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]


C = CHANNELS


def joined(x: Tensor, *branches: nn.Module) -> Tensor:
    return torch.cat([x, *(branch(x) for branch in branches)], 1)


def dense_layer(x: Tensor, norm: nn.Module, conv: nn.Module) -> Tensor:
    return conv(F.relu(norm(torch.cat([x, x[:, :8]], 1))))


def enlarged_sum(x: Tensor, conv: nn.Module) -> Tensor:
    return F.interpolate(conv(x), scale_factor=(3, 2)) + F.interpolate(x[:, :20], (36, 24))


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "relu6": lambda: nn.Sequential(conv(C, C, 1), nn.ReLU6()),
    "hardtanh": lambda: nn.Sequential(conv(C, C, 1), nn.Hardtanh(-0.3, 0.7)),
    "clamp": lambda: Run(lambda x, f: f(x).clamp(0.1, 0.4), conv(C, C, 1)),
    "clamp after add": lambda: Run(lambda x, f: (f(x) + x).clamp(max=0.5), conv(C, C, 1)),
    "clamp of a pool": lambda: Run(lambda x: F.avg_pool2d(x, 3, 2).clamp(0.05, 0.2)),
    "relu6 of a pool": lambda: Run(lambda x: F.relu6(F.avg_pool2d(x * 9, 3))),
    "depthwise": lambda: conv(C, C, 3, padding=1, groups=C, stride=2),
    "depthwise twice as many": lambda: conv(C, 2 * C, 3, groups=C),
    "grouped": lambda: conv(C, 32, 3, groups=4, padding=1),
    "dilated": lambda: conv(C, 16, 3, dilation=(1, 2), padding=2),
    "concat": lambda: Run(joined, conv(C, 8, 1), conv(C, 16, 3, padding=1)),
    "concat pooled": lambda: Run(lambda x, f: F.max_pool2d(joined(x, f), 2), conv(C, 8, 1)),
    "concat added": lambda: Run(lambda x, f, g: joined(x, f) + g(x), conv(C, 8, 1), conv(C, 32, 1)),
    "concat of a mean": lambda: Run(joined, nn.AvgPool2d(3, 1, 1)),
    "dense block": lambda: Run(dense_layer, nn.BatchNorm2d(32), conv(32, 16, 1)),
    "shuffle": lambda: nn.Sequential(ShuffleUnit(), ShuffleUnit(), ShuffleUnit()),
    "one shuffle": ShuffleUnit,
    "shuffle of a pool": lambda: Run(lambda x: F.max_pool2d(F.channel_shuffle(x, 3), 2)),
    "split and add": lambda: Run(lambda x: x.split([8, 8, 8], 1)[1] + x[:, 16:]),
    "flip of channels": lambda: Run(lambda x: x.flip(1)),
    "upsample": lambda: nn.Upsample(scale_factor=2),
    "upsample and add": lambda: Run(enlarged_sum, conv(C, 20, 1)),
    "max pool, ceil": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "max pool, large": lambda: nn.MaxPool2d((5, 7), 1, (2, 3)),
    "max pool, even": lambda: nn.MaxPool2d(2, 1, padding=1),
    "adaptive max pool": lambda: nn.AdaptiveMaxPool2d((11, 4)),
    "average pool, odd": lambda: nn.AvgPool2d((3, 5), (2, 1), (1, 2)),
    "average pool, divisor": lambda: nn.AvgPool2d(3, 2, divisor_override=4),
    "adaptive pool": lambda: nn.AdaptiveAvgPool2d((4, 11)),
    "odd mean added": lambda: Run(lambda x: F.avg_pool2d(x, 3, 1, 1) + x),
    "batch norm first": lambda: nn.Sequential(nn.BatchNorm2d(C), conv(C, C, 3)),
    "stored values": lambda: Run(lambda x: 1.5 - (x * 0.5 + 0.25) / 2),
    "dropout": lambda: nn.Sequential(nn.Dropout(), nn.Dropout2d(), nn.Identity()),
}


def integers(model: nn.Module, size: int = SIZE, fused: bool = True) -> tuple[IntGraph, Tensor]:
    """The integer graph, calibrated on the images that are returned."""
    quantizer = compose([]).quantizer
    x = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    graph = prepare(trace(model, (3, size, size)), quantizer)
    return quantize_graph(graph, calibrate(graph, [x], quantizer), quantizer, fused), x


def assert_exact(model: nn.Module, size: int = SIZE) -> Program:
    """VTA's logits are the reference's, bit for bit, and near the module's own."""
    graph, x = integers(model, size)
    program = compile_graph(graph, vta_spec())
    codes = quantize_input(graph, x)
    logits = simulate(program, codes).logits
    np.testing.assert_array_equal(logits, run(graph, codes))
    with torch.no_grad():
        expected = model.eval()(x).numpy()
    real = logits * graph.scales[graph.output]
    assert np.abs(real - expected).max() < 0.15 * np.abs(expected).max()
    return program


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(Around(MIDDLES[name]()))


@pytest.mark.parametrize("name", MIDDLES)
def test_operator(name: str) -> None:
    model = network(name)
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    traced = trace(model, (3, SIZE, SIZE))
    with torch.no_grad():
        expected = model.double()(x)
    for graph in (traced, fold(traced)):
        torch.testing.assert_close(run_float(graph, x), expected, rtol=1e-9, atol=1e-9)
    assert_exact(model.float())


@pytest.mark.parametrize("name", ["shuffle", "concat added", "upsample", "clamp of a pool"])
def test_operators_on_other_geometries_and_unfused(name: str) -> None:
    model = network(name)
    narrow = vta_spec(log_block_in=3, log_block_out=3, log_acc_buff_size=15, log_wgt_buff_size=15)
    for fused in (True, False):
        graph, x = integers(model, fused=fused)
        codes = quantize_input(graph, x)
        expected = run(graph, codes)
        for spec in (narrow, vta_spec(log_block_in=5), vta_spec(log_batch=1)):
            logits = simulate(compile_graph(graph, spec), codes).logits
            np.testing.assert_array_equal(logits, expected)


def test_a_depthwise_convolution_costs_the_tiles_of_a_diagonal() -> None:
    """3x3 on 24 channels: two blocks, each with nine tiles of 16x16, for 9 * 24 weights."""
    graph, _ = integers(network("depthwise"))
    layer = graph.node("middle")
    assert isinstance(layer, IntConv)
    assert np.count_nonzero(layer.weight.any((2, 3))) == CHANNELS
    bare = compile_graph(graph, vta_spec())
    weights = next(region for region in bare.regions if region.name == "middle.weight")
    assert 2 * 9 <= weights.shape[0] <= 2 * 9 + 4  # with bias tiles


@pytest.mark.parametrize("name", ["concat", "one shuffle"])
def test_joins_and_shuffles_that_convolutions_read_are_not_copied(name: str) -> None:
    graph, _ = integers(network(name))
    moved = [node.name for node in graph.nodes if isinstance(node, IntConcat | IntSelect)]
    assert moved
    copied = {region.name for region in compile_graph(graph, vta_spec()).regions}
    assert not copied & set(moved)


def test_images_larger_than_the_scratchpad_are_pooled_in_bands() -> None:
    program = assert_exact(network("dropout"), size=56)
    assert any(layer.name == "head.0" for layer in program.layers)


class Head(nn.Module):
    """As AlexNet and VGG on small images: an adaptive pool in front of a linear layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(size)
        self.linear = nn.Linear(8 * size * size, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.pool(F.relu(self.conv(x))), 1))


@pytest.mark.parametrize(("size", "pooled"), [(5, 3), (2, 7), (4, 4), (1, 6)])
def test_adaptive_pools_become_part_of_the_linear_layer(size: int, pooled: int) -> None:
    torch.manual_seed(0)
    model = Head(pooled)
    assert_exact(model, size)
    kernels = [n.weight.shape[2:] for n in integers(model, size)[0].nodes if isinstance(n, IntConv)]
    assert kernels == [(3, 3), (size, size)]


def test_features_in_another_order_are_columns_of_the_linear_layer() -> None:
    class Permuted(Head):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.conv(x)).permute(0, 2, 3, 1)
            return self.linear(x.flatten(1)[:, : self.linear.in_features])

    torch.manual_seed(0)
    assert_exact(Permuted(3), 4)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d(5),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, ceil_mode=True),
    ],
)
def test_windows_that_differ_are_refused_within_the_network(pool: nn.Module) -> None:
    model = randomise(Around(pool))
    x = torch.randn(2, 3, SIZE, SIZE, dtype=torch.float64)
    traced = trace(model, (3, SIZE, SIZE))
    torch.testing.assert_close(run_float(traced, x), model.double()(x), rtol=1e-9, atol=1e-9)
    with pytest.raises(UnsupportedError, match="middle: pools or crops 12x12 to"):
        fold(traced)


def test_moves_are_stored_with_the_graph(tmp_path) -> None:  # type: ignore[no-untyped-def]
    class All(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(torch.cat([x.flip(1), x], 1), scale_factor=2)
            return F.max_pool2d(x, 3, 2, ceil_mode=True)

    graph, x = integers(randomise(Around(All())))
    assert {IntConcat, IntSelect, IntUpsample} <= {type(node) for node in graph.nodes}
    save(graph, tmp_path)
    codes = quantize_input(graph, x)
    np.testing.assert_array_equal(run(load(tmp_path), codes), run(graph, codes))
