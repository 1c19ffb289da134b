"""Edges of scales, observers, weights and the executor, each against numbers or plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpw_cli.config.quantizer import (
    Fusion,
    Observer,
    PotRule,
    QuantizerConfig,
    Residual,
    Rounding,
    ScaleMode,
)
from gpw_cli.data.images import Split
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntAvgPool,
    IntConv,
    IntGraph,
    IntInput,
    IntNode,
    IntRelu,
    Rescale,
)
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.graph.ir import Add, AvgPool, Clip, Conv, Graph, Input, MaxPool, Node, ReLU, verify
from gpw_cli.quantization.activations import activation_bits, tensor_scale
from gpw_cli.quantization.convolution import conv_weights
from gpw_cli.quantization.headroom import idle_bits
from gpw_cli.quantization.observers import threshold
from gpw_cli.quantization.plan import Epilogue, plan_fusion, tie_tensors
from gpw_cli.quantization.quantize import quantize_graph
from gpw_cli.quantization.ranges import BINS, Ranges, TensorRange, calibrate, merge
from gpw_cli.quantization.reference import quantize_input, run, run_all, share_right
from gpw_cli.quantization.rescaling import holding
from gpw_cli.quantization.scales import least_error, log2_ratio, mantissa, multiplier, power_of_two
from gpw_cli.quantization.summary import summarise
from gpw_cli.quantization.weights import Scales, corrected_bias, quantize_layer

BEST = QuantizerConfig()
CEIL = replace(BEST, observer=Observer.minmax, pot_rule=PotRule.ceil, weight_pot_rule=PotRule.ceil)
ONE = (1, 1)
NONE = (0, 0)


def seen(values: Any) -> TensorRange:
    tensor = torch.as_tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)
    source = Input("input", (1, 1, tensor.numel()), (0.0,), (1.0,))
    return calibrate(Graph((source,), "input"), [tensor], BEST).tensors["input"]


# --- scales and thresholds ----------------------------------------------------------------------


def test_powers_of_two_at_their_edges() -> None:
    half = math.sqrt(0.5)
    assert power_of_two(half, PotRule.nearest) == 1.0
    assert power_of_two(np.nextafter(half, 0), PotRule.nearest) == 0.5
    assert [power_of_two(s, PotRule.ceil) for s in (1.0, 0.5, 1.5)] == [1.0, 0.5, 2.0]
    assert [mantissa(s) for s in (1.0, 0.375, 7.0)] == [1.0, 1.5, 1.75]
    assert [log2_ratio(a, 1.0, "x") for a in (1.0, 8.0, 0.25, 2 - 1e-10, 1 + 1e-10)] == [
        0, 3, -2, 1, 0,
    ]  # fmt: skip
    for ratio in (1 + 1e-8, 2 - 1e-8):
        with pytest.raises(UnsupportedError, match="no power of two"):
            log2_ratio(ratio, 1.0, "x")


@pytest.mark.parametrize(
    ("value", "step", "top", "scale"),
    [
        (2.0, 0.9, 1, 2.0),  # one above the ceiling
        (2.0, 0.4, 1, 1.0),  # two above it is not tried
        (0.12, 0.8, 1, 0.125),  # three below it
        (0.06, 0.8, 1, 0.125),  # four below it is not tried: all give zero, the smallest wins
        (3.0, 3.0, 1, 2.0),  # as far off as with 4: the smaller wins
    ],
)
def test_the_powers_that_are_tried(value: float, step: float, top: int, scale: float) -> None:
    assert least_error(np.ones(1), np.array([value]), step, top) == scale
    assert least_error(np.ones(1), np.array([3 * value]), 3 * step, top, 3.0) == 3 * scale


def test_multipliers_fill_their_bits() -> None:
    factors, shift = multiplier(np.array([127.0]), 8)
    assert (factors.tolist(), shift) == ([127], 0)
    factors, shift = multiplier(np.array([63.0, 1.5]), 8)
    assert (factors.tolist(), shift) == ([126, 3], 1)
    factors, shift = multiplier(np.array([63.6]), 8)
    assert (factors.tolist(), shift) == ([64], 0)
    with pytest.raises(UnsupportedError, match="needs more than 8"):
        multiplier(np.array([127.5]), 8)


def divergence(counts: list[float], end: int, levels: int) -> float:
    """KL(P || Q) of the TensorRT calibration, in loops."""
    kept = counts[:end]
    levels = min(levels, end)
    spread = [0.0] * end
    for level in range(levels):
        first, last = level * end // levels, (level + 1) * end // levels
        filled = [b for b in range(first, last) if kept[b] > 0]
        for b in filled:
            spread[b] = sum(kept[b] for b in filled) / len(filled)
    p = [*kept[:-1], kept[-1] + sum(counts[end:])]
    if not sum(p) or not sum(spread):
        return math.inf
    return sum(
        x / sum(p) * math.log(x / sum(p) / max(y / sum(spread), 1e-12))
        for x, y in zip(p, spread, strict=True)
        if x > 0
    )


@pytest.mark.parametrize(("bits", "tail"), [(4, 4.0), (6, 2.3), (8, 7.9)])
def test_kl_and_squared_error_against_loops(bits: int, tail: float) -> None:
    rng = np.random.default_rng(bits)
    found = seen(np.concatenate([np.zeros(500), np.abs(rng.normal(size=800)) / 3, [tail]]))
    levels = 2 ** (bits - 1)
    counts = found.counts.reshape(2048, 4).sum(1).astype(float).tolist()
    counts[0] = 0.0
    last = math.ceil(found.max_abs / found.limit * 2048)
    ends = sorted({*range(levels, last, 16), last})
    best = min(ends, key=lambda end: divergence(counts, end, levels))
    wanted = min(best * found.limit / 2048, found.max_abs)
    assert threshold(Observer.kl, found, bits, 0) == pytest.approx(wanted)
    values = np.minimum((np.arange(BINS) + 0.5) * found.limit / BINS, found.max_abs)

    def error(t: float) -> float:
        codes = np.minimum(np.floor(values / (t / (levels - 1)) + 0.5), levels - 1)
        return float((found.counts * (values - codes * t / (levels - 1)) ** 2).sum())

    wanted = min((found.max_abs * n / 100 for n in range(1, 101)), key=error)
    assert threshold(Observer.mse, found, bits, 0) == pytest.approx(wanted)


def test_a_tensor_that_only_one_bin_holds() -> None:
    for observer in (Observer.kl, Observer.percentile, Observer.mse, Observer.minmax):
        assert threshold(observer, seen([1.0, 1.0]), 8, 50.0) == 1.0
    assert threshold(Observer.kl, seen([0.0, 0.0, 1e-5]), 8, 0) == pytest.approx(1e-5, rel=1e-2)


def test_scales_of_tensors() -> None:
    whole = replace(BEST, scale_mode=ScaleMode["global"], global_scale=6.0)
    three = seen([3.0, -1.0])
    assert tensor_scale(three, 8, whole, 1.0) == 6 / 128
    assert tensor_scale(three, 8, whole, 1 / 9) == 2.0**-1 / 9  # 0.42 is nearer to 1/2 than to 1/4
    assert tensor_scale(three, 8, replace(whole, act_bits=4), 1.0) == 6 / 8
    assert tensor_scale(seen([0.0]), 8, CEIL, 1.0) == 2.0**-7
    assert tensor_scale(seen([0.0]), 8, CEIL, 1.5) == 1.5 * 2.0**-7
    assert tensor_scale(three, 8, CEIL, 1.0) == 2.0**-5  # 3 / 127 = 0.0236
    assert tensor_scale(three, 4, CEIL, 1.0) == 0.5  # 3 / 7
    assert tensor_scale(three, 4, replace(CEIL, step_margin=0.0), 1.0) == 0.5  # 3 / 8
    assert tensor_scale(three, 8, replace(CEIL, multiplier_bits=16), 1.0) == 3 / 127
    floored = replace(CEIL, scale_floor=-3)
    assert tensor_scale(three, 8, floored, 1.0) == 2.0**-3
    assert tensor_scale(three, 8, floored, 1.5) == 1.5 * 2.0**-3
    assert tensor_scale(seen([100.0]), 8, floored, 1.0) == 1.0
    clipped = replace(BEST, observer=Observer.percentile, percentile=50.0)
    assert tensor_scale(seen([1.0, 1.0, 100.0]), 4, clipped, 1.0) == 0.25  # 100 counts as 1.02


def chain(*nodes: Node, size: int = 1) -> Graph:
    shape = (1, size, size)
    return verify(Graph((Input("input", shape, (0.0,), (1.0,)), *nodes), nodes[-1].name))


def pointwise(name: str, source: str, value: float = 1.0, size: int = 1, bias: float = 0.0) -> Conv:
    weight = np.full((1, 1, 1, 1), value)
    return Conv(name, source, weight, np.array([bias]), ONE, NONE, (1, size, size))


def test_the_image_keeps_the_bits_of_the_edges() -> None:
    graph = chain(pointwise("c", "input"))
    cfg = replace(BEST, act_bits=4, edge_bits=6)
    assert [activation_bits(graph, node, cfg) for node in graph.nodes] == [6, 4]
    assert activation_bits(graph, graph.input, replace(cfg, act_bits=7)) == 7


# --- calibration --------------------------------------------------------------------------------


def test_ranges_over_many_images_and_threads() -> None:
    """70 images: parts of 32, 32 and 6, whose histograms have different limits."""
    source = Input("input", (2, 1, 2), (0.0,) * 2, (1.0,) * 2)
    images = torch.zeros(70, 2, 1, 2)
    images[:, 0, 0, 0], images[:, 1, 0, 1] = torch.arange(70.0), -2.0
    images[3, 0, 0, 1] = 0.001
    cfg = replace(BEST, calibration=1000)
    found = calibrate(Graph((source,), "input"), [images[:40], images[40:]], cfg).tensors["input"]
    assert (found.limit, found.low, found.high, found.max_abs) == (128.0, -2.0, 69.0, 69.0)
    assert found.mean.tolist() == pytest.approx([(2415 + 0.001) / 140, -1.0])
    wanted, _ = np.histogram(images.abs().numpy(), BINS, (0.0, 128.0))
    assert np.array_equal(found.counts, wanted)
    assert found.centres[:2].tolist() == [1 / 128, 3 / 128]
    assert found.centres[-1] == 69.0


@settings(deadline=None)
@given(
    st.lists(st.floats(-300.0, 300.0, width=32), min_size=12, max_size=12),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.sampled_from([0.0, 2.0**-20, -0.25, 1.0, 256.0]),
)
def test_a_histogram_is_that_of_pytorch(
    values: list[float], layout: torch.memory_format, edge: float
) -> None:
    """Any order in memory; ``edge``, where it is the largest, belongs to the last bin."""
    image = torch.tensor([*values[:11], edge]).reshape(1, 3, 2, 2)
    source = Input("input", (3, 2, 2), (0.0,) * 3, (1.0,) * 3)
    batch = image.contiguous(memory_format=layout)
    found = calibrate(Graph((source,), "input"), [batch], BEST).tensors["input"]
    wanted = torch.histc(image.abs(), BINS, 0.0, found.limit)
    assert np.array_equal(found.counts, wanted.long().numpy())
    assert found.counts.sum() == 12
    assert (found.low, found.high) == (image.min(), image.max())
    np.testing.assert_allclose(found.mean, image.double().mean((0, 2, 3)), rtol=1e-6, atol=1e-9)


def test_merged_ranges_of_any_ratio() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[[0, 1, 4095, 4096, 8191]] = 1, 2, 4, 8, 16
    own = TensorRange(counts, 1.0, -0.5, 1.0, np.ones(1))
    double = merge([own, TensorRange(counts, 2.0, -2.0, 0.25, np.ones(1))])
    assert (double.limit, double.low, double.high, double.mean.size) == (2.0, -2.0, 1.0, 0)
    assert {i: int(double.counts[i]) for i in np.flatnonzero(double.counts)} == {
        0: 1 + 3, 1: 2, 2047: 4, 2048: 8, 4095: 4 + 16, 4096: 8, 8191: 16,
    }  # fmt: skip
    for limit in (float(BINS), 2.0 * BINS):
        far = merge([own, TensorRange(counts, limit, 0.0, limit, np.ones(1))])
        assert far.counts[:2].tolist() == [31 + 1, 2]
        assert far.counts.sum() == 62


def test_saved_ranges_come_back(tmp_path: Path) -> None:
    ranges = Ranges({"a": seen([1.0, -3.0]), "b.c": seen([0.25])}, 7)
    ranges.save(tmp_path)
    loaded = Ranges.load(tmp_path)
    assert (loaded.images, set(loaded.tensors)) == (7, {"a", "b.c"})
    for name, own in ranges.tensors.items():
        other = loaded.tensors[name]
        assert (own.limit, own.low, own.high) == (other.limit, other.low, other.high)
        assert np.array_equal(own.mean, other.mean)


# --- fusion -------------------------------------------------------------------------------------


def residual_graph(*, swapped: bool = False) -> Graph:
    """Two convolutions into one addition, a clip, a convolution, a pool, and an addition."""
    shape = (1, 2, 2)
    sides = ("b", "a") if swapped else ("a", "b")
    return chain(
        pointwise("a", "input", size=2),
        pointwise("b", "input", size=2),
        Add("add", *sides, shape),
        Clip("clip", "add", 0.0, 6.0, shape),
        pointwise("c", "clip", size=2),
        Clip("high", "c", 0.5, 6.0, shape),
        MaxPool("pool", "high", ONE, ONE, NONE, shape),
        Add("last", "pool", "clip", shape),
        ReLU("relu", "last", shape),
        size=2,
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_the_later_convolution_absorbs_the_addition(swapped: bool) -> None:
    graph = residual_graph(swapped=swapped)
    plan = plan_fusion(graph, Fusion.add, wrap=False)
    assert plan.epilogues == {
        "a": Epilogue("a"),
        "b": Epilogue("clip", relu=True, residual="a", clip=(0.0, 6.0)),
        "c": Epilogue("high", relu=False, clip=(0.5, 6.0)),
        "last": Epilogue("relu", relu=True),
    }
    assert plan.absorbed == {"add", "clip", "high", "relu"}
    assert plan.wraps is None
    assert [node.name for node in plan.stored(graph)] == ["input", "a", "b", "c", "pool", "last"]
    assert plan.result(graph.node("b")) == "clip"
    tied = tie_tensors(graph, plan, Residual.unify)
    assert tied["pool"] == tied["high"] == tied["clip"] != tied["relu"]
    loose = tie_tensors(graph, plan, Residual.shift)
    assert loose["pool"] == loose["high"] == "high"
    assert loose["clip"] == "clip"


def test_less_fusion_and_the_addition_that_wraps() -> None:
    graph = residual_graph()
    relu = plan_fusion(graph, Fusion.relu, wrap=False)
    assert relu.epilogues == {
        "a": Epilogue("a"),
        "b": Epilogue("b"),
        "c": Epilogue("high", clip=(0.5, 6.0)),
    }
    none = plan_fusion(graph, Fusion.none, wrap=False)
    assert (dict(none.epilogues), none.absorbed, none.wraps) == ({}, frozenset(), None)
    wrapped = plan_fusion(graph, Fusion.none, wrap=True)
    assert (wrapped.wraps, wrapped.absorbed) == ("last", {"relu"})
    assert wrapped.epilogues == {"last": Epilogue("relu", relu=True)}
    alone = chain(pointwise("a", "input"), pointwise("b", "a"), Add("add", "a", "b", (1, 1, 1)))
    assert plan_fusion(alone, Fusion.add, wrap=True).wraps == "b"


def test_an_addition_of_a_tensor_to_itself_is_not_absorbed() -> None:
    graph = chain(pointwise("a", "input"), Add("twice", "a", "a", (1, 1, 1)))
    assert plan_fusion(graph, Fusion.add, wrap=False).absorbed == frozenset()


# --- weights ------------------------------------------------------------------------------------


def test_the_lowest_code_of_a_weight() -> None:
    weight = np.array([-1.999, 1.0]).reshape(1, 2, 1, 1)
    for low, expected in ((-128, -128), (-127, -127)):
        cfg = replace(CEIL, clip_low=low, step_margin=0.0)
        layer = quantize_layer("c", weight, np.zeros(1), Scales(1.0, 1.0), 8, cfg)
        assert (layer.steps[0], layer.codes.ravel().tolist()) == (2.0**-6, [expected, 64])
    four = quantize_layer(
        "c", weight, np.zeros(1), Scales(1.0, 1.0), 4, replace(CEIL, clip_low=-128)
    )
    assert (four.steps[0], four.codes.ravel().tolist()) == (0.5, [-4, 2])


def test_the_mean_rounding_error_of_the_weights_goes_into_the_bias() -> None:
    weight = np.array([[0.9, -0.3], [0.5, 0.26]]).reshape(2, 2, 1, 1)
    cfg = replace(CEIL, weight_bits=3)
    layer = quantize_layer("c", weight, np.array([1.0, 2.0]), Scales(1.0, 1.0), 3, cfg)
    assert layer.steps.tolist() == [0.5, 0.5]
    assert layer.codes[:, :, 0, 0].tolist() == [[2, -1], [1, 1]]
    found = corrected_bias(weight, np.array([1.0, 2.0]), layer, np.array([10.0, 1.0]))
    assert found.tolist() == pytest.approx([1 - (0.1 * 10 - 0.2), 2 - 0.24])


def test_scales_of_layers_without_weights_and_with_multipliers() -> None:
    nothing = np.zeros((1, 1, 1, 1))
    layer = quantize_layer("c", nothing, np.array([3.0]), Scales(0.5, 0.25), 8, CEIL)
    assert (layer.steps.tolist(), layer.bias.tolist()) == ([2.0**-7], [3 * 256])
    assert layer.shift.tolist() == [6]
    weight = np.full((1, 1, 1, 1), 1.0)
    sdp = replace(CEIL, multiplier_bits=16)
    free = quantize_layer("c", weight, np.zeros(1), Scales(1.0, 0.3), 8, sdp)
    assert free.steps.tolist() == [1 / 127]
    assert free.multiplier is not None
    ratio = free.multiplier[0] / 2.0 ** free.shift[0]
    assert ratio == pytest.approx(1 / 127 / 0.3, rel=1e-4)
    joined = quantize_layer("c", weight, np.zeros(1), Scales(1.0, 0.3, 0.75), 8, sdp)
    assert joined.steps.tolist() == [1.5 * 2.0**-7]  # so that a shift aligns the shortcut
    assert joined.residual_shift is not None
    assert joined.residual_shift.tolist() == [6]
    logits = quantize_layer("c", np.array([1.0, 0.1]).reshape(2, 1, 1, 1), np.zeros(2),
                            Scales(0.5, None), 8, replace(CEIL, per_channel=True))  # fmt: skip
    assert logits.scale == 2.0**-7  # the coarser of both channels' accumulators
    assert logits.shift.tolist() == [0, 4]


def test_only_channels_that_would_overflow_get_a_coarser_scale() -> None:
    weight = np.array([1.0, 2.0**-20]).reshape(2, 1, 1, 1)
    cfg = replace(CEIL, per_channel=True)
    layer = quantize_layer("c", weight, np.array([0.0, 1024.0]), Scales(2.0**-4, 1.0), 8, cfg)
    assert layer.steps[0] == 2.0**-6
    assert layer.steps[1] > 2.0**-26
    assert abs(int(layer.bias[1])) < 2**31
    assert int(layer.bias[1]) == 1024 / (layer.steps[1] * 2.0**-4)
    whole = quantize_layer("c", weight, np.array([0.0, 1024.0]), Scales(2.0**-4, 1.0), 8, CEIL)
    assert whole.steps[0] == whole.steps[1]


# --- the executor -------------------------------------------------------------------------------


def graph_of(*nodes: IntNode) -> IntGraph:
    scales = {node.name: 1.0 for node in nodes}
    return verify_integer(IntGraph(nodes, nodes[-1].name, scales, (0.0,), (1.0,)))


def rescaled(acc: int, rescale: Rescale) -> int:
    n = int(rescale.shift)
    acc += 1 << (n - 1) if rescale.rounding and n > 0 else 0
    value = acc >> n if n >= 0 else acc << -n
    value = (value + 2**31) % 2**32 - 2**31
    value = max(rescale.low, min(rescale.high, value))
    return (value + 128) % 256 - 128


EXTREMES = np.array([-128, -127, -64, -1, 0, 1, 2, 63, 64, 126, 127], np.int8)
RESCALES = st.builds(
    Rescale,
    st.integers(-16, 16),
    st.booleans(),
    st.sampled_from([-128, -127, 0, 3, -(2**31)]),
    st.sampled_from([127, 100, 2**31 - 1]),
)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 12), st.integers(0, 12), st.booleans(), RESCALES)
def test_sums_and_relus_of_extremes(a: int, b: int, relu: bool, rescale: Rescale) -> None:
    """Around the width where 16 bits no longer hold the sums."""
    x = np.stack(np.meshgrid(EXTREMES, EXTREMES)).reshape(1, 2, 1, -1)
    count = x.shape[3]
    flip = np.array([[[[0]], [[1]]], [[[1]], [[0]]]], np.int8)
    keep = Rescale(0, False, -128, 127)
    shape = (2, 1, count)
    swap = IntConv(
        "swap", "input", flip, np.zeros(2, np.int32), ONE, NONE, None, 0, False, keep, 8, shape
    )
    add = IntAdd("add", "input", "swap", a, b, relu, rescale, shape)
    only = IntRelu("relu", "add", rescale, shape)
    mean = IntAvgPool("mean", "relu", ONE, ONE, NONE, rescale, shape)
    found = run_all(graph_of(IntInput("input", shape, 1.0), swap, add, only, mean), x)
    for p, q, *made in zip(
        *(found[name].ravel().tolist() for name in ("input", "swap", "add", "relu", "mean")),
        strict=True,
    ):
        total = (p << a) + (q << b)
        assert made[0] == rescaled(max(total, 0) if relu else total, rescale)
        assert made[1] == rescaled(max(made[0], 0), rescale)
        assert made[2] == rescaled(made[1], rescale)


@pytest.mark.parametrize(
    ("most", "rescale", "kind"),
    [
        (32766, Rescale(0, True, -128, 127), torch.int16),
        (32767, Rescale(0, True, -128, 127), torch.int32),
        (32765, Rescale(1, True, -128, 127), torch.int16),
        (32766, Rescale(1, True, -128, 127), torch.int32),
        (16383, Rescale(-1, True, -128, 127), torch.int16),
        (16384, Rescale(-1, True, -128, 127), torch.int32),
        (1, Rescale(14, True, -128, 127), torch.int16),
        (1, Rescale(15, True, -128, 127), torch.int32),
        (1, Rescale(-14, True, -128, 127), torch.int16),
        (0, Rescale(-15, True, -128, 127), torch.int32),
        (1, Rescale(0, True, -(2**15), 2**15 - 1), torch.int16),
        (1, Rescale(0, True, -(2**15) - 1, 127), torch.int32),
        (1, Rescale(0, True, -128, 2**15), torch.int32),
        (1, Rescale(0, True, *FULL_RANGE), torch.int16),
        (1, Rescale(0, True, -128, 127, 3), torch.int32),
        (1, Rescale(np.zeros(2, np.int32), True, -128, 127), torch.int32),
    ],
)
def test_which_width_holds_the_sums(most: int, rescale: Rescale, kind: torch.dtype) -> None:
    assert holding(most, rescale) is kind


def conv_of(weight: np.ndarray, rescale: Rescale, **changes: Any) -> IntConv:
    out, _, high, wide = weight.shape
    made = IntConv(
        "conv", "input", weight.astype(np.int8), np.arange(1, out + 1, dtype=np.int32), ONE,
        (high // 2, wide // 2), None, 0, False, rescale, 8, (out, 4, 4),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("channels", "kernel", "padded"),
    [(1, 3, 1), (2, 3, 2), (3, 3, 4), (5, 3, 8), (9, 3, 16), (16, 3, 16), (17, 3, 32), (3, 1, 3)],
)
def test_channels_fill_the_type_that_moves_a_pixel(channels: int, kernel: int, padded: int) -> None:
    weight = np.full((2, channels, kernel, kernel), -2)
    weight[1, 0, 0, 0] = 127
    made = conv_weights(conv_of(weight, Rescale(3, True, -127, 127)))
    assert made.channels == padded
    assert made.matrix.shape == (kernel * kernel * padded, 2)
    assert made.bound == 128 * (127 + 2 * (channels * kernel * kernel - 1))
    assert made.matrix.numpy().astype(int).sum() == weight.sum()


@pytest.mark.parametrize(
    ("rescale", "relu", "added", "left"),
    [
        (Rescale(3, True, 0, 127), True, 4, False),
        (Rescale(3, True, 5, 127), True, 4, False),
        (Rescale(3, True, -127, 127), True, 0, True),
        (Rescale(3, True, *FULL_RANGE), True, 0, True),
        (Rescale(1, True, -127, 127), False, 1, False),
        (Rescale(3, False, -127, 127), False, 0, False),
        (Rescale(0, True, -127, 127), False, 0, False),
        (Rescale(-1, True, 0, 127), True, 0, True),
        (Rescale(np.array([3, 4], np.int32), True, 0, 127), True, 0, True),
        (Rescale(3, True, 0, 127, 5), True, 0, True),
    ],
)
def test_what_is_added_with_the_bias(rescale: Rescale, relu: bool, added: int, left: bool) -> None:
    node = conv_of(np.ones((2, 1, 1, 1)), rescale, relu=relu)
    made = conv_weights(node)
    assert made.bias.tolist() == [1 + added, 2 + added]
    assert made.relu is left
    assert made.rescale.rounding is left


@pytest.mark.parametrize("shift", [-9, -1, 0, 7, 24, 30, 31])
def test_shortcuts_shifted_far_wrap_around(shift: int) -> None:
    x = EXTREMES.reshape(1, 1, 1, -1)
    shape = (1, 1, len(EXTREMES))
    node = IntConv(
        "conv", "input", np.ones((1, 1, 1, 1), np.int8), np.array([5], np.int32), ONE, NONE,
        "input", shift, False, Rescale(0, False, *FULL_RANGE), 32, shape,
    )  # fmt: skip
    found = run(graph_of(IntInput("input", shape, 1.0), node), x)[0].tolist()
    for value, got in zip(EXTREMES.tolist(), found, strict=True):
        side = value << shift if shift >= 0 else (value + (1 << (-shift - 1))) >> -shift
        assert got == (value + 5 + side + 2**31) % 2**32 - 2**31


def test_images_are_clipped_to_the_codes_of_the_input() -> None:
    graph = graph_of(IntInput("input", (1, 1, 4), 0.5, -3, 5))
    graph = replace(graph, scales={"input": 0.5})
    codes = quantize_input(graph, np.array([-9, -1.25, 2.5, 99], np.float32).reshape(1, 1, 1, 4))
    assert codes.ravel().tolist() == [-3, -3, 5, 5]


def test_of_equal_logits_the_first_wins() -> None:
    split = Split(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 1, 0, 2]))
    logits = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert share_right(logits, split) == 0.75


# --- summary and headroom -----------------------------------------------------------------------


def test_rows_of_inputs_logits_and_channels() -> None:
    weight = np.array([1.0, 0.1]).reshape(2, 1, 1, 1)
    graph = chain(Conv("c", "input", weight, np.zeros(2), ONE, NONE, (2, 1, 1)))
    x = torch.tensor([1.0] * 98 + [3.0, -2.0]).reshape(-1, 1, 1, 1)
    cfg = replace(
        CEIL, logit_bits=16, per_channel=True, observer=Observer.percentile, percentile=98
    )
    ranges = calibrate(graph, [x], cfg)
    integers = quantize_graph(graph, ranges, cfg, fused=True)
    image, conv = summarise(graph, ranges, integers, cfg, fused=True)
    assert (image["kind"], image["scale"], image["exponent"]) == ("input", 2.0**-6, -6.0)
    assert (image["min"], image["max"], image["shape"]) == (-2.0, 3.0, [1, 1, 1])
    assert image["clipped"] == pytest.approx(0.02)
    assert (conv["kind"], conv["clipped"], conv["scale"]) == ("conv", 0.0, 2.0**-13)
    assert conv["weight_scale"] == [2.0**-10, 2.0**-6]
    assert conv["shift"] == [-1, 3]
    assert conv["zero_weights"] == 0.0
    assert "multiplier" not in conv


def guarded(**changes: Any) -> IntGraph:
    """A convolution with weights 2 and -3 whose accumulators reach 635, read by another."""
    reader = changes.pop("reader", None)
    source = IntInput("input", (2, 1, 1), 1.0)
    first = IntConv(
        "first", "input", np.array([2, -3], np.int8).reshape(1, 2, 1, 1), np.array([0], np.int32),
        ONE, NONE, None, 0, False, Rescale(3, False, -127, 79), 8, (1, 1, 1),
    )  # fmt: skip
    first = replace(first, **changes)
    last = reader or replace(
        first, name="last", input="first", residual=None, weight=np.ones((1, 1, 1, 1), np.int8)
    )
    nodes: tuple[IntNode, ...] = (source, first) if reader == "none" else (source, first, last)
    scales = {node.name: 1.0 for node in nodes}
    return IntGraph(nodes, nodes[-1].name, scales, (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("changes", "bits"),
    [
        ({}, {}),  # 635 >> 3 = 79
        ({"bias": np.array([4], np.int32)}, {}),
        ({"bias": np.array([5], np.int32)}, {"first": 1}),  # 640 >> 3 = 80
        ({"rescale": Rescale(3, True, -127, 79)}, {}),  # 639 >> 3
        ({"rescale": Rescale(3, True, -127, 79), "bias": np.array([1], np.int32)}, {"first": 1}),
        ({"rescale": Rescale(3, False, -127, 20)}, {"first": 2}),  # 635 >> 5 = 19
        ({"rescale": Rescale(3, False, -127, 19)}, {"first": 2}),
        ({"rescale": Rescale(3, False, -127, 18)}, {}),  # three more are too many
        ({"rescale": Rescale(0, False, -127, 20)}, {}),  # no right shift
        ({"rescale": Rescale(1, False, -127, 100)}, {"first": 2}),
        ({"rescale": Rescale(3, False, *FULL_RANGE)}, {}),
        ({"rescale": Rescale(3, False, -127, 20, 3)}, {}),
        ({"rescale": Rescale(np.array([3], np.int32), False, -127, 20)}, {}),
        ({"rescale": Rescale(3, False, -127, 20), "residual": "input"}, {}),
        ({"rescale": Rescale(3, False, -127, 20), "reader": "none"}, {}),
        (
            {
                "rescale": Rescale(3, False, -127, 20),
                "reader": IntRelu("last", "first", Rescale(0, False, 0, 127), (1, 1, 1)),
            },
            {},
        ),
    ],
)
def test_bits_that_make_the_clip_redundant(changes: dict[str, Any], bits: dict[str, int]) -> None:
    assert idle_bits(guarded(**changes), 2) == bits


@pytest.mark.parametrize(
    ("before", "high", "needed"),
    [
        (Rescale(0, False, 3, 100), 200, False),  # 0 may pad it: at most 2 * 100 - 0
        (Rescale(0, False, 3, 100), 199, True),
        (Rescale(0, False, -50, -10), 150, False),  # likewise: 0 + 3 * 50
        (Rescale(0, False, -50, -10), 149, True),
        (Rescale(0, False, *FULL_RANGE), 254 + 384, False),  # -128 .. 127
        (Rescale(0, False, *FULL_RANGE), 254 + 383, True),
    ],
)
def test_codes_that_a_convolution_may_read(before: Rescale, high: int, needed: bool) -> None:
    source = IntInput("input", (2, 1, 1), 1.0)
    eye = np.eye(2, dtype=np.int8).reshape(2, 2, 1, 1)
    first = IntConv("first", "input", eye, np.zeros(2, np.int32), ONE, NONE, None, 0, False, before,
                    8, (2, 1, 1))  # fmt: skip
    second = replace(
        first, name="second", input="first", weight=np.array([4, -6], np.int8).reshape(1, 2, 1, 1),
        bias=np.zeros(1, np.int32), rescale=Rescale(1, False, -127, high), shape=(1, 1, 1),
    )  # fmt: skip
    third = replace(second, name="third", input="second", weight=np.ones((1, 1, 1, 1), np.int8))
    nodes = (source, first, second, third)
    graph = IntGraph(nodes, "third", {node.name: 1.0 for node in nodes}, (0.0,), (1.0,))
    assert ("second" in idle_bits(graph, 1)) is needed


# --- nodes of the integer graph -----------------------------------------------------------------


def test_clips_become_codes() -> None:
    graph = chain(
        pointwise("a", "input"),
        Clip("low", "a", 0.25, 0.8, (1, 1, 1)),
        Clip("top", "low", 0.0, 0.5, (1, 1, 1)),
        pointwise("b", "top"),
    )
    x = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
    ranges = calibrate(graph, [x], CEIL)
    scale = 2.0**-7  # 0.8 / 127, rounded up
    fused = quantize_graph(graph, ranges, CEIL, fused=True)
    first, second = fused.node("a"), fused.node("top")
    assert isinstance(first, IntConv)
    assert isinstance(second, IntRelu)
    assert fused.scales["a"] == scale
    assert (first.relu, first.rescale.low, first.rescale.high) == (False, 32, 102)  # 102.4
    assert (second.rescale.low, second.rescale.high) == (0, 64)
    loose = quantize_graph(graph, ranges, CEIL, fused=False)
    mean = loose.node("low")
    assert isinstance(mean, IntAvgPool)
    assert (mean.kernel, mean.rescale.low, mean.rescale.high) == (ONE, 32, 102)


def test_means_and_additions_of_different_scales() -> None:
    shape = (1, 2, 2)
    graph = verify(
        Graph(
            (
                Input("input", (1, 4, 4), (0.0,), (1.0,)),
                Conv("a", "input", np.full((1, 1, 1, 1), 8.0), np.zeros(1), ONE, NONE, (1, 4, 4)),
                AvgPool("mean", "a", (2, 2), (2, 2), NONE, shape),
                AvgPool("other", "input", (2, 2), (2, 2), NONE, shape),
                Add("add", "other", "mean", shape),
            ),
            "add",
        )
    )
    x = torch.ones(1, 1, 4, 4)
    cfg = replace(CEIL, residual=Residual.shift)
    integers = quantize_graph(graph, calibrate(graph, [x], cfg), cfg, fused=False)
    assert [integers.scales[name] for name in ("input", "a", "mean", "other", "add")] == [
        2.0**-6, 2.0**-3, 2.0**-3, 2.0**-6, 2.0**-3,
    ]  # fmt: skip
    mean, add = integers.node("mean"), integers.node("add")
    assert isinstance(mean, IntAvgPool)
    assert isinstance(add, IntAdd)
    assert mean.rescale.shift == 2
    assert (add.shift_a, add.shift_b, add.rescale.shift) == (0, 3, 3)
    assert (add.rescale.rounding, cfg.rounding) == (True, Rounding.round)
