"""EIE runs integer graphs: entry by entry equal to dense 16-bit arithmetic, and near int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from integer_graphs import GraphMaker

from gpw_cli.config.compose import compose
from gpw_cli.graph.integer import IntConv, IntGraph, Rescale
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import run
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import decode
from gpw_cli.targets.eie.fixed import fraction_for, rounded, safe_shift, shifted, to_fixed
from gpw_cli.targets.eie.functional import Simulator
from gpw_cli.targets.eie.host import windows
from gpw_cli.targets.eie.network import compile_network
from gpw_cli.targets.eie.reference import run_reference
from gpw_cli.targets.eie.timing import Counts, time_network
from tests.small_targets import eie

SMALL = eie(pes=4, registers=16)


def every_node(keep: float) -> IntGraph:
    """All kinds of nodes; strides, a flat kernel, shifts by channel, fused and plain shortcuts."""
    maker = GraphMaker((2, 16, 16), seed=5)
    first = maker.conv("input", 9, 3, 2, keep=keep, tile=1)
    pooled = maker.max_pool(first)
    by_channel = Rescale(np.arange(9, dtype=np.int32) % 3 + 8, True, -128, 127)
    left = maker.conv(pooled, 9, (3, 1), padding=0, keep=keep, tile=1, rescale=by_channel)
    right = maker.conv(pooled, 9, (3, 1), padding=0, keep=keep, tile=1, relu=False,
                       residual=left, residual_shift=7)  # fmt: skip
    summed = maker.add(left, right, 1, 0)
    padded = maker.pad(maker.relu(summed), 1, 1, 2)
    small = maker.avg_pool(padded, 2, 2)
    hidden = maker.conv(small, 70, (1, 2), padding=0, keep=keep, tile=1)
    maker.conv(hidden, 5, 1, keep=keep, tile=1, relu=False, bits=32)
    return maker.graph()


def images(graph: IntGraph, count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(-127, 128, (count, *graph.input.shape)).astype(np.int8)


@pytest.mark.parametrize("keep", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("config", [SMALL, eie(pes=3, index_bits=2, code_bits=3)])
def test_simulator_equals_the_dense_reference(keep: float, config: EieConfig) -> None:
    graph = every_node(keep)
    network = compile_network(graph, config)
    got = Simulator(network).run(images(graph, 5))
    assert np.array_equal(got, run_reference(network, images(graph, 5)))
    assert len(np.unique(got)) > 3
    assert network.on_host == {"shortcut addition": 2, "max pooling": 1, "average pooling": 1}


def test_ten_layers_equal_their_matrices_in_pythons_integers() -> None:
    for seed, (outputs, inputs, relu) in enumerate(
        [(5, 9, True), (64, 64, False), (70, 33, True), (1, 200, False), (130, 17, True),
         (20, 20, False), (9, 128, True), (65, 5, False), (31, 90, True), (128, 64, False)]
    ):  # fmt: skip
        maker = GraphMaker((inputs, 1, 1), seed=seed)
        maker.conv("input", outputs, 1, keep=0.4, tile=1, relu=relu)
        network = compile_network(maker.graph(), SMALL)
        x = images(maker.graph(), 2)
        layer = next(iter(network.layers.values()))
        codes = np.block([[decode(block) for block in row] for row in layer.blocks])
        got = Simulator(network).run(x)
        for image, vector in enumerate(x.reshape(2, inputs).tolist()):
            for row in range(outputs):
                total = int(layer.bias[row])
                for code, a in zip(codes[row], vector, strict=True):
                    product = int(layer.values[code]) * a * 256
                    total += (product + (1 << layer.shift >> 1)) >> layer.shift
                    assert -(2**15) <= total < 2**15
                total = max(total, 0) if relu else total
                low, high = -128, 127 * 256 + 127  # what rounds to 0 and 127
                assert got[image, row] == np.clip(total << layer.back, low, high)


def test_where_sharing_is_exact_the_outputs_are_the_integer_graphs_but_for_rounding() -> None:
    """Few distinct weights: sharing is exact, and 16 bits round less than 8."""
    maker = GraphMaker((20, 4, 4), seed=3)
    maker.conv("input", 12, 3, keep=0.5, tile=1, rescale=Rescale(10, True, -128, 127))
    graph = maker.graph()
    node = graph.nodes[1]
    assert isinstance(node, IntConv)
    node.weight[...] = node.weight // 20 * 20
    x = images(graph, 3)
    got, expected = Simulator(compile_network(graph, SMALL)).run(x), run(graph, x)
    # half a unit of the reference, and 90 products rounded to 1 / 32
    assert np.abs(got / 256 - expected)[expected < 127].max() <= 1


def test_resnet20_equals_the_reference_and_follows_the_integer_graph() -> None:
    torch.manual_seed(0)
    quantizer = compose(["data=digits"]).quantizer
    floats = prepare(trace(cifar_resnet(20, 10, "A").eval(), (3, 32, 32)), quantizer)
    x = torch.rand(8, 3, 32, 32)
    graph = quantize_graph(floats, calibrate(floats, [x], quantizer), quantizer, fused=True)
    network = compile_network(graph, eie(code_bits=8))
    quantized = (x[:2] / graph.input.scale).round().to(torch.int8).numpy()
    got = Simulator(network).run(quantized)
    assert np.array_equal(got, run_reference(network, quantized))
    assert np.corrcoef(got.ravel(), run(graph, quantized).ravel())[0, 1] > 0.999
    assert network.on_host == {"shortcut addition": 9, "average pooling": 1}
    assert network.fits
    assert len(network.layers) == 20


def test_times_count_the_activations_that_are_not_zero() -> None:
    graph = every_node(0.5)
    network = compile_network(graph, SMALL)
    tensors = Simulator(network).tensors(images(graph, 2))
    times = time_network(network, tensors)
    assert list(times) == list(network.layers)
    total = sum(times.values(), Counts())
    assert total.cycles == total.queues + total.moves + 7 * total.vectors
    passes = [-(-layer.shape[0] // 64) for layer in network.layers.values()]
    assert [t.vectors for t in times.values()] == [
        2 * n * layer.pixels for n, layer in zip(passes, network.layers.values(), strict=True)
    ]
    for found in times.values():
        assert found.theoretical(4) <= found.least <= found.cycles
    last = list(network.layers.values())[-1]
    assert times[last.name].broadcasts == np.count_nonzero(tensors[last.input])


def test_an_accumulator_never_leaves_16_bits() -> None:
    """The shift is the smallest that holds for the worst activations, signed and not."""
    weights = np.array([[30000, -20000, 5], [100, 100, 100]], np.int64)
    bias = np.zeros(2)
    for signed, most in ((False, 30005), (True, 50005)):
        shift = safe_shift(weights, bias, 15, signed)
        assert most * 2.0 ** (15 - shift) + 4 <= 32767 < most * 2.0 ** (16 - shift) + 4
    assert safe_shift(np.zeros((1, 1), np.int64), bias[:1], 15, True) == 0
    assert safe_shift(weights, np.array([2.0**20, 0]), 15, False) == 21


def test_rounding_is_half_up_and_clips() -> None:
    assert to_fixed(np.array([0.5, -0.5, 1.49, 40000.0]), 0).tolist() == [1, 0, 1, 32767]
    assert [int(shifted(np.int64(v), -2)) for v in (6, -6, 5, -5)] == [2, -1, 1, -1]  # type: ignore[arg-type]
    assert int(shifted(np.int64(3), 4)) == 48  # type: ignore[arg-type]
    assert rounded(np.array([-32769.0, 2.5])).tolist() == [-32768, 3]
    assert (fraction_for(1.0), fraction_for(0.9), fraction_for(0.0)) == (14, 15, 15)


@pytest.mark.parametrize("padding", [(0, 1), (1, 0), (2, 1)])
def test_windows_of_unequal_padding(padding: tuple[int, int]) -> None:
    x = np.random.default_rng(0).integers(-99, 99, (3, 6, 5, 2)).astype(np.int16)
    (down, across), (kh, kw), (step, stride) = padding, (3, 2), (2, 1)
    wide = np.full((3, 6 + 2 * down, 5 + 2 * across, 2), -7, np.int16)
    wide[:, down : 6 + down, across : 5 + across] = x
    seen = np.lib.stride_tricks.sliding_window_view(wide, (kh, kw), axis=(1, 2))
    expected = seen[:, ::step, ::stride]  # [C, OH, OW, N, KH, KW]
    found = windows(x, (kh, kw), (step, stride), padding, fill=-7)
    assert len(found) == kh * kw
    for n, view in enumerate(found):
        np.testing.assert_array_equal(view, expected[..., n // kw, n % kw])
