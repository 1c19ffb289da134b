"""EIE runs networks: entry by entry equal to dense 16-bit arithmetic, and near the float graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold
from gpw_cli.graph.ir import Graph
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import decode
from gpw_cli.targets.eie.fixed import fraction_for, shifted, to_fixed
from gpw_cli.targets.eie.functional import Simulator
from gpw_cli.targets.eie.network import compile_network
from gpw_cli.targets.eie.reference import run_reference
from gpw_cli.targets.eie.timing import Counts, time_network

SMALL = EieConfig(pes=4, registers=16)


def pooled() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 9, 3, stride=2, padding=1),
        nn.BatchNorm2d(9),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(9, 12, (3, 1), padding=(1, 0)),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 70),
        nn.ReLU(),
        nn.Linear(70, 5),
    )


def graph_of(model: nn.Module, shape: tuple[int, int, int], density: float) -> Graph:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
            parameter.data *= torch.rand_like(parameter) < density
    return fold(trace(model.eval(), shape))


def largest_of(graph: Graph, x: torch.Tensor) -> Mapping[str, float]:
    seen: dict[str, float] = {}
    run_float(graph, x, lambda name, value: seen.update({name: float(value.abs().max())}))
    return seen


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("config", [SMALL, EieConfig(pes=3, registers=64, index_bits=2)])
def test_simulator_equals_the_dense_reference(density: float, config: EieConfig) -> None:
    graph = graph_of(pooled(), (2, 16, 16), density)
    x = torch.randn(5, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    network = compile_network(graph, largest_of(graph, x), config)
    got = Simulator(network).run(x.numpy())
    assert got.shape == (5, 5)
    assert np.array_equal(got, run_reference(network, x.numpy()))
    assert len(np.unique(got)) > 3


def test_ten_linear_layers_equal_their_matrices() -> None:
    """Layer by layer against one formula in Python's integers."""
    rng = np.random.default_rng(7)
    for outputs, inputs in [(5, 9), (64, 64), (70, 33), (1, 200), (130, 17), (20, 20), (9, 128),
                            (65, 5), (31, 90), (128, 64)]:  # fmt: skip
        model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
        graph = graph_of(model, (inputs, 1, 1), 0.3)
        x = rng.normal(size=(2, inputs, 1, 1)).astype(np.float32).clip(0)
        network = compile_network(graph, largest_of(graph, torch.from_numpy(x)), SMALL)
        tensors = Simulator(network).tensors(x)
        layer = next(iter(network.layers.values()))
        codes = np.block([[decode(block) for block in row] for row in layer.blocks])
        for image in range(2):
            vector = [int(a) for a in tensors[layer.input][..., image].ravel()]
            for row in range(outputs):
                total = int(layer.bias[row])
                for code, a in zip(codes[row], vector, strict=True):
                    product = int(layer.values[code]) * a
                    total += (product + (1 << layer.shift >> 1)) >> layer.shift
                wrapped = (total + 2**15) % 2**16 - 2**15
                assert tensors[layer.name][row, 0, 0, image] == wrapped


def test_resnet20_equals_the_reference_and_follows_the_float_graph() -> None:
    graph = graph_of(cifar_resnet(20, 10, "A"), (3, 32, 32), 0.2)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    network = compile_network(graph, largest_of(graph, x), EieConfig(code_bits=8))
    got = Simulator(network).run(x.numpy())
    assert np.array_equal(got, run_reference(network, x.numpy()))
    real = run_float(graph, x).numpy()
    unit = 2.0 ** -network.fractions[graph.output]
    assert np.abs(got * unit - real).max() < 0.15 * np.abs(real).max()
    assert network.on_host == {"shortcut addition": 9, "average pooling": 1}


def test_times_count_the_activations_that_are_not_zero() -> None:
    graph = graph_of(pooled(), (2, 16, 16), 0.5)
    x = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    network = compile_network(graph, largest_of(graph, x), SMALL)
    tensors = Simulator(network).tensors(x.numpy())
    times = time_network(network, tensors)
    assert list(times) == list(network.layers)
    conv, last = next(iter(times.values())), list(times.values())[-1]
    assert conv.vectors == 2 * 8 * 8
    assert last.vectors == 2
    layer = list(network.layers.values())[-1]
    active = tensors[layer.input].reshape(70, 2) != 0
    assert last.broadcasts == active.sum()
    total = sum(times.values(), Counts())
    assert total.cycles == sum(t.cycles for t in times.values())
    assert total.least <= total.cycles
    assert total.theoretical(4) <= total.least
    assert total.cycles == total.queues + total.moves + 7 * total.vectors
    assert [t.vectors for t in times.values()] == [2 * 64, 2 * 16, 2 * 2, 2]  # 70 outputs: 2 passes


def test_fixed_point_rounds_half_up_and_clips() -> None:
    assert to_fixed(np.array([0.5, -0.5, 1.49, 40000.0]), 0).tolist() == [1, 0, 1, 32767]
    assert [int(shifted(np.int64(v), 2)) for v in (6, -6, 5, -5)] == [2, -1, 1, -1]
    assert (fraction_for(1.0), fraction_for(0.9, 2.0), fraction_for(0.0)) == (14, 14, 15)
