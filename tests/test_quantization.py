"""Ranges, scales and the quantizer: each formula against numbers worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import GraphMaker
from networks import ForeignNet, MeanNet, ResNetLike, VggLike, randomise
from omegaconf import OmegaConf
from torch import Tensor, nn

from gpw_cli.arrays import Floats
from gpw_cli.config.compose import compose
from gpw_cli.config.quantizer import (
    Fusion,
    Observer,
    PotRule,
    QuantizerConfig,
    Residual,
    Rounding,
    ScaleMode,
)
from gpw_cli.data.images import Split, normalise
from gpw_cli.errors import CheckpointError, DataError, UnsupportedError, UsageError
from gpw_cli.graph.equalise import equalise
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntConv,
    IntGraph,
    IntInput,
    IntRelu,
    Rescale,
)
from gpw_cli.graph.ir import Add, AvgPool, Conv, Graph, Input, ReLU, verify
from gpw_cli.graph.trace import trace
from gpw_cli.models.cifar_resnet import cifar_resnet
from gpw_cli.quantization.headroom import idle_bits
from gpw_cli.quantization.matmul import int8_matmul
from gpw_cli.quantization.observers import squared_error, threshold
from gpw_cli.quantization.quantize import prepare, quantize_graph
from gpw_cli.quantization.ranges import Ranges, TensorRange, calibrate, merge
from gpw_cli.quantization.reference import (
    accuracy,
    quantize_images,
    quantize_input,
    run,
    run_all,
    split_logits,
)
from gpw_cli.quantization.scales import least_error, log2_ratio, power_of_two, round_half_away
from gpw_cli.quantization.summary import summarise
from gpw_cli.quantization.weights import Scales, bias_integers, quantize_layer
from gpw_cli.stages import inputs

CONF = Path(__file__).resolve().parents[1] / "conf" / "quantizer"
BEST = QuantizerConfig()


def preset(name: str) -> QuantizerConfig:
    """A file of conf/quantizer over the typed defaults, as Hydra merges them."""
    raw = OmegaConf.load(CONF / f"{name}.yaml")
    parents = [entry for entry in raw.pop("defaults", []) if entry != "_self_"]
    bases = [OmegaConf.load(CONF / f"{parent}.yaml") for parent in parents]
    schema = OmegaConf.structured(QuantizerConfig)
    OmegaConf.set_readonly(schema, False)
    return OmegaConf.to_object(OmegaConf.merge(schema, *bases, raw))


TVM, PROFILE, NEST = preset("tvm_single"), preset("profile"), preset("nest_fused")


def seen(values: Any) -> TensorRange:
    """The range of one tensor that takes exactly ``values``."""
    tensor = torch.as_tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)
    source = Input("input", (1, 1, tensor.numel()), (0.0,), (1.0,))
    return calibrate(Graph((source,), "input"), [tensor], BEST).tensors["input"]


@pytest.mark.parametrize(
    ("step", "rule", "expected"),
    [
        (0.25, PotRule.ceil, 0.25),
        (0.2500001, PotRule.ceil, 0.5),
        (0.2, PotRule.ceil, 0.25),
        (3.0, PotRule.ceil, 4.0),
        (0.35, PotRule.nearest, 0.25),  # log2 0.35 = -1.51
        (0.36, PotRule.nearest, 0.5),  # log2 0.36 = -1.47
    ],
)
def test_power_of_two(step: float, rule: PotRule, expected: float) -> None:
    assert power_of_two(step, rule) == expected
    assert power_of_two(step * 1.5, rule, unit=1.5) == expected * 1.5


def test_least_error_is_the_best_of_the_powers_around() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=1000))
    counts = np.ones_like(values)
    step = float(values.max()) / 7
    best = least_error(counts, values, step, 7)
    errors = {e: squared_error(counts, values, 2.0**e, 7) for e in range(-8, 4)}
    assert best == 2.0 ** min(errors, key=lambda e: errors[e])


def test_log2_ratio_and_rounding() -> None:
    assert log2_ratio(0.375, 3.0, "x") == -3
    with pytest.raises(UnsupportedError, match="layer7: its scales"):
        log2_ratio(1.0, 3.0, "layer7")
    assert round_half_away(np.array([0.5, -0.5, 1.49, -2.5])).tolist() == [1, -1, 1, -3]


def test_observers() -> None:
    values = np.concatenate([np.linspace(0, 1, 9999), [50.0]])
    found = {o: threshold(o, seen(values), 8, 99.9) for o in Observer}
    assert found[Observer.minmax] == 50.0
    assert 0.99 < found[Observer.percentile] <= 1.02
    assert threshold(Observer.percentile, seen(values), 8, 100.0) == 50.0
    assert found[Observer.kl] < 5.0
    assert 40 < found[Observer.mse] < 50.0  # one outlier's error outweighs the resolution lost
    narrow = np.concatenate([np.linspace(0, 1, 9999), [3.0]])
    assert threshold(Observer.mse, seen(narrow), 4, 0) < 2.0
    assert threshold(Observer.kl, seen(np.zeros(5)), 8, 0) == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30))
def test_calibration_over_batches_is_calibration_over_all(values: list[float]) -> None:
    tensor = torch.tensor(values).reshape(-1, 1, 1, 1)
    source = Graph((Input("input", (1, 1, 1), (0.0,), (1.0,)),), "input")
    one = calibrate(source, [tensor], BEST).tensors["input"]
    many = calibrate(source, list(tensor.split(1)), BEST).tensors["input"]
    assert one.max_abs == max(abs(value) for value in tensor.flatten().tolist())
    assert (one.low, one.high, one.limit) == (many.low, many.high, many.limit)
    assert one.counts.sum() == many.counts.sum() == len(values)
    inside = np.cumsum(one.counts)[-1]
    assert inside == len(values)
    np.testing.assert_allclose(one.mean, many.mean, rtol=1e-6, atol=1e-9)
    both = merge([one, many])
    assert both.counts.sum() == 2 * len(values)


def test_a_histogram_that_doubles_keeps_every_value_in_its_bin() -> None:
    source = Graph((Input("input", (1, 1, 4), (0.0,), (1.0,)),), "input")
    small, large = torch.tensor([0.1, 0.3, 0.5, 0.9]), torch.tensor([1.5, 3.0, 6.9, 7.9])
    batches = [part.reshape(1, 1, 1, 4) for part in (small, large)]
    found = calibrate(source, batches, BEST).tensors["input"]
    assert found.limit == 8.0
    everything = torch.cat([small, large]).double().numpy()
    wanted, _ = np.histogram(everything, len(found.counts), (0.0, 8.0))
    assert np.array_equal(found.counts, wanted)


def test_the_percentile_is_the_upper_edge_of_its_bin() -> None:
    """8192 bins over [0, 8): 90 of 100 values lie in bin 1024, ten in bin 7168."""
    values = [1.0 + 1e-4] * 90 + [7.0 + 1e-4] * 10
    found = {p: threshold(Observer.percentile, seen(values), 8, p) for p in (50.0, 90.0, 90.1)}
    assert found == {50.0: 1025 / 1024, 90.0: 1025 / 1024, 90.1: seen(values).max_abs}


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_images_are_rounded_half_away_from_zero(scale: float) -> None:
    graph = IntGraph(
        (IntInput("input", (1, 1, 8), scale),), "input", {"input": scale}, (0.0,), (1.0,)
    )
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, 1000], np.float32) * scale
    codes = quantize_input(graph, halves.reshape(1, 1, 1, 8))
    assert codes.reshape(-1).tolist() == [1, 2, 3, -1, -2, -3, 0, 127]


@pytest.mark.parametrize(("size", "count"), [(8, 700), (200, 3)])
def test_images_in_parts_give_what_each_alone_gives(size: int, count: int) -> None:
    """Up to 512 images of 8 x 8 at once, and one of 200 x 200."""
    mean, std = (0.5, 0.4, 0.6), (0.25, 0.2, 0.3)
    graph = prepare(trace(randomise(ForeignNet()), (3, size, size), mean, std), BEST)
    pixels = torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8)
    images = normalise(pixels, mean, std)
    integers = quantize_graph(graph, calibrate(graph, [images[:3]], BEST), BEST, fused=True)
    x = quantize_images(integers, pixels)
    assert np.array_equal(x, quantize_input(integers, images))
    logits = split_logits(integers, Split(pixels, torch.zeros(count)))
    assert np.array_equal(logits, run(integers, x))
    assert np.array_equal(logits[-1:], run(integers, x[-1:]))


@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
@pytest.mark.parametrize("stride", [(1, 2), (2, 1), (3, 2)])
def test_the_reference_s_convolution_is_the_textbook_s(
    kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    """Rows and columns, strides and padding that differ, so that none can stand for another."""
    rng = np.random.default_rng(0)
    padding = (0, 0) if kernel == (1, 1) else (0, 1)
    weight = rng.integers(-127, 128, (5, 3, *kernel)).astype(np.int8)
    bias = rng.integers(-900, 900, 5).astype(np.int32)
    x = rng.integers(-128, 128, (2, 3, 9, 11)).astype(np.int8)
    wanted = torch.nn.functional.conv2d(
        torch.from_numpy(x).double(), torch.from_numpy(weight).double(),
        torch.from_numpy(bias).double(), stride, padding,
    )  # fmt: skip
    node = IntConv(
        "conv", "input", weight, bias, stride, padding, None, 0, False,
        Rescale(0, False, *FULL_RANGE), 32, tuple(wanted.shape[1:]),
    )  # fmt: skip
    source = IntInput("input", (3, 9, 11), 1.0)
    graph = IntGraph((source, node), "conv", {"input": 1.0, "conv": 1.0}, (0.0,) * 3, (1.0,) * 3)
    assert np.array_equal(run_all(graph, x)["conv"], wanted.numpy())


def test_calibration_takes_the_first_images_and_refuses_what_it_cannot_use(
    tmp_path: Path,
) -> None:
    source = Graph((Input("input", (1, 1, 1), (0.0,), (1.0,)),), "input")
    batches = torch.arange(10.0).reshape(-1, 1, 1, 1).split(4)
    ranges = calibrate(source, batches, replace(BEST, calibration=6))
    assert ranges.images == 6
    assert ranges.tensors["input"].high == 5.0
    ranges.save(tmp_path)
    loaded = Ranges.load(tmp_path)
    assert loaded.images == 6
    np.testing.assert_array_equal(loaded.tensors["input"].counts, ranges.tensors["input"].counts)
    with pytest.raises(CheckpointError):
        Ranges.load(tmp_path / "absent")
    with pytest.raises(DataError, match="at least one"):
        calibrate(source, [], BEST)
    with pytest.raises(DataError, match="NaN"):
        calibrate(source, [torch.full((1, 1, 1, 1), torch.nan)], BEST)


def test_presets_are_what_they_say() -> None:
    assert preset("best") == BEST
    for path in CONF.glob("*.yaml"):
        assert preset(path.stem).name == path.stem
    assert replace(NEST, name="profile", fusion=Fusion.none) == PROFILE


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("weight_bits", 9),
        ("act_bits", 1),
        ("bias_bits", 16),
        ("clip_low", 0),
        ("logit_bits", 24),
        ("global_scale", 0.0),
        ("percentile", 101.0),
        ("scale_floor", 40),
        ("calibration", 0),
    ],
)
def test_bad_values_are_refused(knob: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"quantizer.{knob}={value}"):
        replace(BEST, **{knob: value})


# --- formulas, by hand ------------------------------------------------------------------------


def chain(w1: Floats, b1: Floats, w2: Floats) -> Graph:
    """1x1 convolution, ReLU, 1x1 convolution on an image of one pixel."""
    shape = (len(w1), 1, 1)
    return verify(
        Graph(
            (
                Input("input", (w1.shape[1], 1, 1), (0.0,), (1.0,)),
                Conv("c1", "input", w1[:, :, None, None], b1, (1, 1), (0, 0), shape),
                ReLU("r1", "c1", shape),
                Conv(
                    "c2",
                    "r1",
                    w2[:, :, None, None],
                    np.zeros(len(w2)),
                    (1, 1),
                    (0, 0),
                    (len(w2), 1, 1),
                ),
            ),
            "c2",
        )
    )


def pixels(values: Any) -> Tensor:
    array = torch.as_tensor(values, dtype=torch.float32)
    return array.reshape(*array.shape, 1, 1)


def test_tvm_formulas_by_hand() -> None:
    graph = chain(np.array([[0.75, -0.3]]), np.array([0.1]), np.array([[0.2]]))
    ranges = calibrate(graph, [pixels([[3.0, -1.0]])], TVM)
    integers = quantize_graph(graph, ranges, TVM, fused=True)
    c1, c2 = integers.node("c1"), integers.node("c2")
    assert isinstance(c1, IntConv)
    assert isinstance(c2, IntConv)
    # s_a = 8/128 = 2^-4; max|w| = 0.75 -> M = 1, s_w = 2^-7; s_b = 0.125/128 = 2^-10 >= 2^-11
    assert set(integers.scales.values()) == {2.0**-4, 2.0**-4 * 2.0**-9}
    assert c1.weight.ravel().tolist() == [96, -38]  # 0.75*128, round(-0.3*128 = -38.4)
    assert c1.bias.tolist() == [102 << 1]  # round(0.1*1024) = 102, left by log2(2^-10 / 2^-11)
    assert (c1.rescale.shift, c1.rescale.rounding, c1.relu) == (7, True, True)
    assert (c1.rescale.low, c1.rescale.high) == (0, 127)
    assert (c2.weight.ravel().tolist(), c2.out_bits) == ([102], 32)  # s_w = 0.25/128 = 2^-9
    x = quantize_input(integers, pixels([[3.0, -1.0], [9.0, 0.0]]))
    assert x[:, :, 0, 0].tolist() == [[48, -16], [127, 0]]  # clipped to +-127
    acc = 48 * 96 + 16 * 38 + 204
    hidden = min((acc + 64) >> 7, 127)
    assert run_all(integers, x)["c1"].ravel().tolist() == [hidden, (127 * 96 + 204 + 64) >> 7]
    assert run(integers, x)[0].tolist() == [hidden * 102]


@settings(deadline=None)
@given(
    acc=st.integers(-(2**20), 2**20),
    bias=st.floats(-1.0, 1.0),
    largest=st.floats(2.0**-9, 1.0),
    exponent=st.integers(-14, -4),
    shift=st.integers(0, 9),
    rounding=st.sampled_from(list(Rounding)),
)
def test_eight_bit_biases_are_tvms(
    acc: int, bias: float, largest: float, exponent: int, shift: int, rounding: Rounding
) -> None:
    """TVM brings the coarser of accumulator and bias to the finer scale, adds, then rescales."""
    cfg = replace(TVM, rounding=rounding)
    biases, unit = np.array([bias * largest, largest]), 2.0**exponent
    got = bias_integers(biases, np.full(2, unit), np.full(2, shift, np.int32), 1.0, cfg)
    s_b = 2.0 ** np.ceil(np.log2(largest)) / 128
    code = int(round_half_away(biases / s_b).clip(-127, 127)[0])
    k = int(np.log2(s_b / unit))
    n = shift - min(k, 0)
    total = (acc << max(-k, 0)) + (code << max(k, 0))
    half = (1 << (n - 1)) if n > 0 and rounding is Rounding.round else 0
    ours = acc + int(got[0])
    our_half = (1 << (shift - 1)) if shift > 0 and rounding is Rounding.round else 0
    assert (ours + our_half) >> shift == (total + half) >> n


def test_nest_formulas_by_hand_unfused_and_fused() -> None:
    # |c1| reaches 3.5 on the negative side, ReLU's output 1.25
    graph = chain(np.array([[1.0]]), np.array([0.0]), np.array([[0.1]]))
    ranges = calibrate(graph, [pixels([[-3.5], [1.25]])], PROFILE)
    integers = quantize_graph(graph, ranges, PROFILE, fused=False)
    # 2^ceil(log2(2 max / 255)): max 3.5 -> 2^-5, ReLU's 1.25 -> 2^-6, the weight's 1.0 -> 2^-6
    assert [integers.scales[name] for name in ("input", "c1", "r1")] == [2.0**-5, 2.0**-5, 2.0**-6]
    c1, r1, c2 = (integers.node(name) for name in ("c1", "r1", "c2"))
    assert isinstance(c1, IntConv)
    assert isinstance(r1, IntRelu)
    assert isinstance(c2, IntConv)
    assert (c1.weight.ravel().tolist(), c1.rescale.shift) == ([64], 6)
    assert (c1.rescale.rounding, c1.rescale.low, c1.relu) == (False, -128, False)
    assert (r1.rescale.shift, r1.rescale.low, r1.rescale.high) == (-1, 0, 127)
    # w2: 2*0.1/255 -> 2^-10, but no scale is below 2^-7: round(0.1 * 128) = 13
    assert c2.weight.ravel().tolist() == [13]
    x = quantize_input(integers, pixels([[1.24], [-0.02]]))
    assert x.ravel().tolist() == [40, -1]
    tensors = run_all(integers, x)
    assert tensors["c1"].ravel().tolist() == [(40 * 64) >> 6, (-1 * 64) >> 6]
    assert tensors["r1"].ravel().tolist() == [80, 0]
    fused = quantize_graph(graph, ranges, NEST, fused=True)
    conv = fused.node("c1")
    assert isinstance(conv, IntConv)
    assert [node.name for node in fused.nodes] == ["input", "c1", "c2"]
    assert (conv.relu, conv.rescale.shift, fused.scales["c1"]) == (True, 5, 2.0**-6)


def test_fusion_is_equation_four() -> None:
    rng = np.random.default_rng(0)
    graph = chain(rng.normal(size=(8, 4)), rng.normal(size=8), rng.normal(size=(3, 8)))
    x = torch.randn(64, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    cfg = replace(BEST, fusion=Fusion.relu)
    integers = quantize_graph(graph, calibrate(graph, [x], cfg), cfg, fused=True)
    conv = integers.node("c1")
    assert isinstance(conv, IntConv)
    codes = quantize_input(integers, x)[:, :, 0, 0].astype(np.int64)
    sums = codes @ conv.weight[:, :, 0, 0].T.astype(np.int64) + conv.bias
    ratio = 2.0 ** -np.float64(conv.rescale.shift)  # S_x S_w / S_a
    expected = np.maximum(0, np.floor(sums * ratio + 0.5)).clip(0, 127)
    np.testing.assert_array_equal(
        run_all(integers, quantize_input(integers, x))["c1"][:, :, 0, 0], expected
    )


# --- whole networks ---------------------------------------------------------------------------

FAMILIES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cifar A": (lambda: cifar_resnet(20, 10, "A"), 8),
    "cifar B": (lambda: cifar_resnet(20, 10, "B"), 8),
    "foreign": (ForeignNet, 12),
    "resnet18": (ResNetLike, 24),
    "resnet50": (lambda: ResNetLike(bottleneck=True), 24),
    "vgg": (VggLike, 16),
    "mean": (MeanNet, 9),
}


def network(family: str) -> tuple[Graph, Tensor]:
    torch.manual_seed(0)
    build, size = FAMILIES[family]
    graph = trace(randomise(build()), (3, size, size))
    return graph, torch.randn(24, 3, size, size)


def error(integers: IntGraph, graph: Graph, x: Tensor) -> float:
    """Root mean square error of the real logits, relative to their spread."""
    logits = run(integers, quantize_input(integers, x)) * integers.scales[integers.output]
    expected = run_float(graph, x).numpy()
    return float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())


@pytest.mark.parametrize("family", FAMILIES)
def test_eight_bits_are_close_to_float_on_every_family(family: str) -> None:
    traced, x = network(family)
    graph = prepare(traced, BEST)
    ranges = calibrate(graph, [x], BEST)
    for cfg in (BEST, replace(BEST, per_channel=True, residual=Residual.shift)):
        for fused in (False, True):
            integers = quantize_graph(graph, ranges, cfg, fused)
            assert error(integers, traced, x) < (0.06 if fused else 0.12)
            added = [node for node in integers.nodes if isinstance(node, IntAdd | IntRelu)]
            assert bool(added) != fused


def test_fused_networks_keep_the_order_of_execution() -> None:
    """Option A makes its shortcut after the convolution that adds it; the convolution waits."""
    traced, x = network("cifar A")
    graph = prepare(traced, BEST)
    integers = quantize_graph(graph, calibrate(graph, [x], BEST), BEST, fused=True)
    names = [node.name for node in integers.nodes]
    assert names.index("layer2.0.shortcut") == names.index("layer2.0.conv2") - 1
    conv = integers.node("layer2.0.conv2")
    assert isinstance(conv, IntConv)
    assert (conv.residual, conv.relu) == ("layer2.0.shortcut", True)
    assert integers.scales["layer2.0.shortcut"] == integers.scales["layer1.2.conv2"]


KNOBS: dict[str, Any] = {
    "scale_mode": ScaleMode["global"],
    "observer": Observer.percentile,
    "pot_rule": PotRule.ceil,
    "weight_pot_rule": PotRule.nearest,
    "weight_bits": 5,
    "act_bits": 5,
    "bias_bits": 8,
    "rounding": Rounding.truncate,
    "scale_floor": -3,
    "clip_low": -128,
    "residual": Residual.shift,
    "per_channel": True,
    "logit_bits": 16,
    "bias_correction": False,
    "wrap_last_add": True,
}


def fingerprint(integers: IntGraph) -> str:
    return "".join(
        str([getattr(node, field) for field in node.__dataclass_fields__])
        + str(vars(getattr(node, "rescale", object)) if hasattr(node, "rescale") else "")
        for node in integers.nodes
    ) + str(dict(integers.scales))


@pytest.mark.parametrize("knob", KNOBS)
def test_every_knob_changes_the_integers(knob: str) -> None:
    traced, x = network("foreign")
    base = replace(BEST, pot_rule=PotRule.nearest, percentile=90.0)
    graph = prepare(traced, base)
    ranges = calibrate(graph, [x], base)
    other = replace(base, **{knob: KNOBS[knob]})
    results = [quantize_graph(graph, ranges, cfg, fused=False) for cfg in (base, other)]
    assert fingerprint(results[0]) != fingerprint(results[1])
    assert run(results[1], quantize_input(results[1], x)).shape == (24, 5)


def test_knobs_of_a_mode() -> None:
    """Knobs that act only beside another one."""
    traced, x = network("foreign")
    graph = prepare(traced, BEST)
    ranges = calibrate(graph, [x], BEST)
    whole = replace(BEST, scale_mode=ScaleMode["global"])
    three = replace(TVM, weight_bits=3, edge_bits=3)
    pairs = [
        (whole, replace(whole, global_scale=23.0)),
        (replace(BEST, weight_bits=4), replace(BEST, weight_bits=4, edge_bits=4)),
        (
            replace(BEST, observer=Observer.percentile, percentile=60.0),
            replace(BEST, observer=Observer.percentile),
        ),
        (replace(TVM, fusion=Fusion.add), TVM),
        (three, replace(three, step_margin=1.0)),
    ]
    for a, b in pairs:
        results = [quantize_graph(graph, ranges, cfg, fused=True) for cfg in (a, b)]
        assert fingerprint(results[0]) != fingerprint(results[1])
    assert set(quantize_graph(graph, ranges, pairs[0][1], False).scales.values()) >= {23 / 128}


def test_logits_of_every_width_agree() -> None:
    traced, x = network("vgg")
    graph = prepare(traced, BEST)
    ranges = calibrate(graph, [x], BEST)
    for bits, limit in ((8, 0.06), (16, 0.04), (32, 0.04)):
        cfg = replace(BEST, logit_bits=bits)
        assert error(quantize_graph(graph, ranges, cfg, fused=True), traced, x) < limit
        cfg = replace(cfg, per_channel=True)
        assert error(quantize_graph(graph, ranges, cfg, fused=True), traced, x) < limit


def test_equalised_networks_compute_the_same() -> None:
    traced, x = network("vgg")
    folded = prepare(traced, replace(BEST, equalise=False))
    equal = equalise(folded)
    torch.testing.assert_close(run_float(equal, x.double()), run_float(folded, x.double()))
    first, second = equal.node("classifier.0"), equal.node("classifier.3")
    assert isinstance(first, Conv)
    assert isinstance(second, Conv)
    np.testing.assert_allclose(
        np.abs(first.weight).max((1, 2, 3)), np.abs(second.weight).max((0, 2, 3)), rtol=1e-6
    )


def test_pruned_weights_stay_zero() -> None:
    torch.manual_seed(0)
    model = randomise(ForeignNet())
    with torch.no_grad():
        model.get_parameter("layer1.0.conv1.weight")[:, 2:5] = 0
        model.get_parameter("layer1.1.conv2.weight").zero_()
    x = torch.randn(8, 3, 12, 12)
    for cfg in (BEST, TVM, NEST, replace(BEST, per_channel=True)):
        graph = prepare(trace(model, (3, 12, 12)), cfg)
        integers = quantize_graph(graph, calibrate(graph, [x], cfg), cfg, fused=True)
        conv, whole = integers.node("layer1.0.conv1"), integers.node("layer1.1.conv2")
        assert isinstance(conv, IntConv)
        assert isinstance(whole, IntConv)
        assert not conv.weight[:, 2:5].any()
        assert not whole.weight.any()


@settings(deadline=None)
@given(
    weight=st.floats(1e-12, 1e3),
    bias=st.floats(-1e4, 1e4),
    exponents=st.tuples(st.integers(-12, 4), st.integers(-12, 4), st.integers(-12, 4)),
    per_channel=st.booleans(),
)
def test_accumulators_never_leave_32_bits(
    weight: float, bias: float, exponents: tuple[int, int, int], per_channel: bool
) -> None:
    scales = Scales(*(2.0**e for e in exponents))
    weights = np.array([[weight, -weight / 3], [weight * 1e-5, 0.0]]).reshape(2, 2, 1, 1)
    cfg = replace(BEST, per_channel=per_channel)
    layer = quantize_layer("conv", weights, np.array([bias, 0.0]), scales, 8, cfg)
    assert layer.residual_shift is not None
    for o in range(2):
        n, s = int(layer.shift[o]), int(layer.residual_shift[o])
        largest = 128 * int(np.abs(layer.codes[o].astype(int)).sum()) + abs(int(layer.bias[o]))
        largest += (128 << s) if s >= 0 else 128
        assert largest + (1 << max(n - 1, 0)) < 2**31
        assert n <= 30


def average_graph(kernel: int, add: bool) -> Graph:
    """An average pool over kernel x kernel, a convolution behind it, or an addition of it."""
    size = kernel * 2
    rng = np.random.default_rng(0)
    nodes: list[Any] = [
        Input("input", (2, size, size), (0.0,) * 2, (1.0,) * 2),
        AvgPool("avg", "input", (kernel,) * 2, (kernel,) * 2, (0, 0), (2, 2, 2)),
        AvgPool("avg2", "avg", (1, 1), (1, 1), (0, 0), (2, 2, 2)),
    ]
    weight = rng.normal(size=(2, 2, 1, 1))
    nodes.append(Conv("conv", "avg2", weight, rng.normal(size=2), (1, 1), (0, 0), (2, 2, 2)))
    if add:
        nodes.append(Add("add", "avg2", "conv", (2, 2, 2)))
    return verify(Graph(tuple(nodes), nodes[-1].name))


@pytest.mark.parametrize("kernel", [2, 3, 7])
def test_average_pools_over_any_window(kernel: int) -> None:
    graph = average_graph(kernel, add=False)
    x = torch.randn(16, 2, 2 * kernel, 2 * kernel, generator=torch.Generator().manual_seed(1))
    for cfg in (BEST, TVM):
        ranges = calibrate(graph, [x], cfg)
        assert error(quantize_graph(graph, ranges, cfg, fused=True), graph, x) < 0.15
    if kernel == 2:
        adding = average_graph(kernel, add=True)
        integers = quantize_graph(adding, calibrate(adding, [x], BEST), BEST, fused=True)
        assert error(integers, adding, x) < 0.05


def test_an_addition_that_no_shift_can_align_is_refused() -> None:
    graph = average_graph(3, add=True)
    x = torch.randn(4, 2, 6, 6)
    with pytest.raises(UnsupportedError, match="no shift joins them"):
        quantize_graph(graph, calibrate(graph, [x], BEST), BEST, fused=False)


def test_tvms_last_addition_may_wrap() -> None:
    shape = (1, 1, 1)
    one = np.ones((1, 1, 1, 1))
    nodes = (
        Input("input", shape, (0.0,), (1.0,)),
        Add("add", "input", "input", shape),
        ReLU("relu", "add", shape),
        Conv("conv", "relu", one, np.zeros(1), (1, 1), (0, 0), shape),
    )
    graph = verify(Graph(nodes, "conv"))
    x = pixels([[5.0], [1.0]])
    ranges = calibrate(graph, [x], TVM)
    for cfg, expected in ((TVM, 127), (replace(TVM, wrap_last_add=True), 160 - 256)):
        integers = quantize_graph(graph, ranges, cfg, fused=False)
        tensors = run_all(integers, quantize_input(integers, x))
        stored = tensors["relu" if "relu" in tensors else "add"].ravel().tolist()
        assert stored == [expected, 32]
    add = integers.node("add")
    assert isinstance(add, IntAdd)
    assert (add.relu, add.rescale.low, add.rescale.high) == (True, *FULL_RANGE)


def test_accuracy_and_summary() -> None:
    traced, _ = network("foreign")
    images = torch.randint(0, 256, (40, 12, 12, 3), dtype=torch.uint8)
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    x = normalise(images, mean, std)
    nodes = (replace(traced.input, mean=mean, std=std), *traced.nodes[1:])
    graph = prepare(Graph(nodes, traced.output), BEST)
    ranges = calibrate(graph, [x], BEST)
    integers = quantize_graph(graph, ranges, BEST, fused=True)
    labels = torch.from_numpy(run(integers, quantize_input(integers, x)).argmax(1)).long()
    labels[:10] = 5  # no such class
    assert accuracy(integers, Split(images, labels)) == 0.75
    rows = summarise(graph, ranges, integers, BEST, fused=True)
    assert [row["name"] for row in rows] == [node.name for node in integers.nodes]
    first = rows[1]
    assert (first["kind"], first["tensor"]) == ("conv", "relu")
    assert first["scale"] == 2.0 ** first["exponent"] == integers.scales["conv1"]
    seen = ranges.tensors["relu"]
    assert first["max"] == seen.high
    beyond = seen.counts[seen.centres > 127.5 * first["scale"]].sum() / seen.counts.sum()
    assert 0 < first["clipped"] == beyond < 0.05
    conv = integers.node("conv1")
    assert isinstance(conv, IntConv)
    scale = first["weight_scale"][0]
    node = graph.node("conv1")
    assert isinstance(node, Conv)
    assert float(np.abs(conv.weight * scale - node.weight).max()) < scale


def test_headroom_makes_the_upper_clip_idle() -> None:
    maker = GraphMaker((16, 6, 6))
    first = maker.conv("input", 16, 1, bias=0)
    maker.nodes[-1].weight[:] = 30  # at most 16 * 30 * 127 = 60,960: 119 after a shift by 9
    maker.conv(first, 16, 1, bias=0)
    maker.nodes[-1].weight[:] = 127  # 258,064: 504 after a shift by 9, 126 by two more
    graph = maker.graph()
    last = graph.nodes[-1]
    maker.conv(last.name, 10, 1, relu=False, bits=32)
    graph = maker.graph()
    assert idle_bits(graph, 1) == {}
    assert idle_bits(graph, 2) == {last.name: 2}
    shortcut = replace(graph.nodes[-1], residual=last.name)  # ties the scale
    tied = replace(graph, nodes=(*graph.nodes[:-1], shortcut))
    assert idle_bits(tied, 2) == {}


def test_headroom_is_in_the_key_of_fuse_only_where_it_is_given() -> None:
    plain, given = compose([]), compose(["quantizer.headroom=1"])
    assert inputs.quantize(plain) == inputs.quantize(given)
    assert "headroom" not in inputs.fuse(plain)
    assert inputs.fuse(given)["headroom"] == 1


def test_without_vnni_no_product_that_may_saturate_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older int8 kernels saturate at 16 bits; 127 * 127 twice is beyond them."""
    a, b = torch.full((3, 40), 127, dtype=torch.int8), torch.full((40, 5), 127, dtype=torch.int8)

    def saturates(*_: torch.Tensor) -> torch.Tensor:
        return torch.full((3, 5), 2**15 - 1, dtype=torch.int32)

    monkeypatch.setattr(torch, "_int_mm", saturates)
    for vnni, found in ((False, 40 * 127 * 127), (True, 2**15 - 1)):
        monkeypatch.setattr("gpw_cli.quantization.matmul.has_vnni", lambda vnni=vnni: vnni)
        for bound in (40 * 127 * 127, 2**24):
            assert (int8_matmul(a, b, bound) == found).all()
