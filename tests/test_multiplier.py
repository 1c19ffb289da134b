"""Rescales with a multiplier and a shift: the arithmetic, the files, the quantizer, who refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import GraphMaker
from networks import ForeignNet, VggLike, randomise
from torch import nn
from vta_programs import compile_graph, vta_spec

from gpw_cli.config.compose import compose
from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.graph import integer_io
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.integer import IntConv, Rescale, apply_rescale
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.graph.trace import trace
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import calibrate
from gpw_cli.quantization.reference import quantize_input, run, run_all
from gpw_cli.quantization.scales import multiplier
from gpw_cli.quantization.summary import summarise
from gpw_cli.stages import inputs

BEST = QuantizerConfig()
SDP = replace(BEST, name="sdp", per_channel=True, multiplier_bits=16)


def exact(acc: int, m: int, n: int, rounding: bool) -> int:
    """acc * m / 2^n on Python's integers, halves away from zero, or rounded down."""
    product = acc * m
    if not rounding:
        return product // 2**n
    size = (2 * abs(product) + 2**n) // 2 ** (n + 1)
    return size if product >= 0 else -size


@settings(deadline=None)
@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=3, max_size=3),
    st.lists(st.integers(0, 2**15 - 1), min_size=3, max_size=3),
    st.integers(0, 31),
    st.booleans(),
)
def test_rescale_is_its_definition(acc: list[int], m: list[int], n: int, rounding: bool) -> None:
    rescale = Rescale(n, rounding, -128, 127, np.array(m, np.int32))
    got = apply_rescale(np.array(acc).reshape(3, 1, 1), rescale)
    pairs = zip(acc, m, strict=True)
    assert got.ravel().tolist() == [
        max(-128, min(127, exact(a, factor, n, rounding))) for a, factor in pairs
    ]


def test_halves_go_away_from_zero() -> None:
    rescale = Rescale(2, True, -128, 127, 3)
    assert apply_rescale(np.array([[[2, -2, 6]]]), rescale).ravel().tolist() == [2, -2, 5]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("rounding", [False, True])
def test_the_executor_multiplies(relu: bool, rounding: bool) -> None:
    factors = np.array([1, 32767, 20000, 0, 9], np.int32)
    maker = GraphMaker((3, 6, 6))
    rescale = Rescale(24, rounding, -127, 127, factors)
    name = maker.conv("input", 5, relu=relu, rescale=rescale)
    maker.relu(name, Rescale(15, True, -127, 127, 30000))
    graph = verify_integer(maker.graph())
    x = maker.rng.integers(-128, 128, (2, 3, 6, 6)).astype(np.int8)
    node = graph.node(name)
    assert isinstance(node, IntConv)
    wide = replace(node, rescale=Rescale(0, False, -(2**31), 2**31 - 1), out_bits=32)
    acc = run_all(replace(graph, nodes=(graph.input, wide), output=name), x)[name].astype(np.int64)
    got = run_all(graph, x)
    np.testing.assert_array_equal(got[name], apply_rescale(acc, rescale))
    last = Rescale(15, True, -127, 127, 30000)
    expected = apply_rescale(np.maximum(got[name].astype(np.int64), 0), last)
    np.testing.assert_array_equal(got[graph.output], expected)


def test_files_hold_a_multiplier_and_nothing_else_new(tmp_path: Path) -> None:
    maker = GraphMaker((3, 6, 6))
    factors = np.array([5, 6], np.int32)
    maker.conv(maker.conv("input", 2, rescale=Rescale(9, True, 0, 127, factors)), 4)
    integer_io.save(maker.graph(), tmp_path)
    assert (tmp_path / integer_io.GRAPH).read_text().count('"multiplier"') == 1
    first, second = integer_io.load(tmp_path).nodes[1:]
    assert isinstance(first, IntConv)
    assert isinstance(second, IntConv)
    np.testing.assert_array_equal(first.rescale.multiplier, factors)
    assert (second.rescale.multiplier, second.rescale.multiplies) == (1, False)


@pytest.mark.parametrize(
    ("shift", "factor"), [(32, 5), (-1, 5), (3, 2**15), (3, np.array([1, 2], np.int32))]
)
def test_what_no_convertor_takes_is_refused(shift: int, factor: int | np.ndarray) -> None:
    maker = GraphMaker((3, 6, 6))
    name = maker.conv("input", 4, rescale=Rescale(shift, True, 0, 127, factor))
    with pytest.raises(UnsupportedError, match=name):
        verify_integer(maker.graph())


def test_vta_refuses_a_multiplier() -> None:
    maker = GraphMaker((16, 6, 6))
    name = maker.conv("input", 16, rescale=Rescale(20, True, 0, 127, 300))
    with pytest.raises(UnsupportedError, match=rf"{name}.*quantizer=best"):
        compile_graph(maker.graph(), vta_spec())


def test_multiplier_of_ratios() -> None:
    factors, shift = multiplier(np.array([0.01, 0.004]), 16)
    assert (factors.tolist(), shift) == ([20972, 8389], 21)  # 0.01 * 2^21 = 20971.52
    factors, shift = multiplier(np.array([2.0**-40, 2.0**-20]), 16)
    assert (factors.tolist(), shift) == ([0, 2048], 31)
    with pytest.raises(UnsupportedError, match="multiplier bits"):
        multiplier(np.array([40000.0]), 16)


@pytest.mark.parametrize(("make", "size"), [(ForeignNet, 16), (VggLike, 16)])
def test_the_quantizer_is_nearer_to_float_with_multipliers(
    make: type[nn.Module], size: int
) -> None:
    torch.manual_seed(0)
    model = randomise(make())
    images = torch.randn(16, 3, size, size)
    errors = []
    for cfg in (BEST, SDP):
        graph = prepare(trace(model, (3, size, size)), cfg)
        ranges = calibrate(graph, [images], cfg)
        integers = quantize_graph(graph, ranges, cfg, fused=True)
        logits = run(integers, quantize_input(integers, images)) * integers.scales[integers.output]
        exact_logits = run_float(graph, images).flatten(1).numpy()
        errors.append(float(np.sqrt(np.mean((logits - exact_logits) ** 2))))
        rows = summarise(graph, ranges, integers, cfg, True)
        convs = [n for n in integers.nodes if isinstance(n, IntConv)]
        assert sum("multiplier" in row for row in rows) == (len(convs) - 1) * (cfg is SDP)
    assert errors[1] < errors[0]


def test_keys_of_quantizers_that_only_shift_are_what_they_were() -> None:
    assert "multiplier_bits" not in inputs.quantize(compose([]))
    config = compose(["quantizer=sdp"])
    assert (config.quantizer.multiplier_bits, config.quantizer.per_channel) == (16, True)
    assert inputs.quantize(config)["multiplier_bits"] == 16
    with pytest.raises(UsageError, match="bias_bits"):
        compose(["quantizer=sdp", "quantizer.bias_bits=8"])
