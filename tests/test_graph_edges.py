"""Edges of the graphs: facts, shapes, shared values, branches and operators' arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import ResNetLike
from torch import Tensor, nn

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.branches import residual_branches
from gpw_cli.graph.codebook import share
from gpw_cli.graph.constants import Known, known, never_negative
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.equalise import equalise
from gpw_cli.graph.floating import run_float
from gpw_cli.graph.fold import fold, merge_pads
from gpw_cli.graph.frame import kernel_positions
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntAvgPool,
    IntConcat,
    IntConv,
    IntGraph,
    IntInput,
    IntMaxPool,
    IntNode,
    IntPad,
    IntRelu,
    IntSelect,
    Rescale,
)
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.graph.ir import (
    Add,
    AvgPool,
    BatchNorm,
    Clip,
    Conv,
    Graph,
    Input,
    MaxPool,
    Node,
    Pad,
    ReLU,
    output_size,
    renamed,
    verify,
)
from gpw_cli.graph.moves import Concat, Select, Spread, Upsample, moved_shape
from gpw_cli.graph.parameters import parameters, with_parameters
from gpw_cli.graph.rearrange import live, rearrange
from gpw_cli.graph.trace import trace
from gpw_cli.graph.views import averages, uniform, windows

ONE, NONE = (1, 1), (0, 0)
NAN = np.nan


def image(channels: int = 1, size: int = 4) -> Input:
    return Input("input", (channels, size, size), (0.0,) * channels, (1.0,) * channels)


def conv(name: str, source: str, weight: Any, size: int = 4, bias: Any = None) -> Conv:
    array = np.asarray(weight, float)
    array = array.reshape(*array.shape, *([1] * (4 - array.ndim)))
    own = np.zeros(len(array)) if bias is None else np.asarray(bias, float)
    pad = (array.shape[2] // 2, array.shape[3] // 2)
    return Conv(name, source, array, own, ONE, pad, (len(array), size, size))


# --- facts --------------------------------------------------------------------------------------

SHAPE = (3, 4, 4)
X = Known(np.array([0.0, -2.0, NAN]), np.array([True, False, True]))
Y = Known(np.array([1.0, NAN, 3.0]), np.array([True, True, False]))


@pytest.mark.parametrize(
    ("node", "constant", "positive"),
    [
        (image(3), [NAN] * 3, [False] * 3),
        (conv("c", "x", [[0, 0, 0], [0, 0, 0], [0, 1, 0]], bias=[2, 0, 5]), [2, 0, NAN], [0, 1, 0]),
        (Add("a", "x", "y", SHAPE), [1, NAN, NAN], [1, 0, 0]),
        (Concat("k", ("y", "x"), (6, 4, 4)), [1, NAN, 3, 0, -2, NAN], [1, 1, 0, 1, 0, 1]),
        (BatchNorm("b", "x", np.array([2.0, 0.0, 0.0]), np.array([5.0, 7, 0]), SHAPE),
         [5, 7, 0], [0, 0, 1]),
        (ReLU("r", "x", SHAPE), [0, 0, NAN], [1, 1, 1]),
        (Clip("l", "x", -1.0, 6.0, SHAPE), [0, -1, NAN], [1, 0, 1]),
        (Clip("l", "x", 0.0, 6.0, SHAPE), [0, 0, NAN], [1, 1, 1]),
        (Clip("l", "x", -5.0, -1.0, SHAPE), [-1, -2, NAN], [0, 0, 0]),
        (Clip("l", "x", -5.0, 0.0, SHAPE), [0, -2, NAN], [1, 0, 1]),
        (Select("s", "x", np.array([2, 1, 1]), SHAPE), [NAN, -2, -2], [1, 0, 0]),
        (Spread("w", "x", np.ones((2, 4)), np.ones((2, 4)), (3, 2, 2)), [0, NAN, NAN], [1, 0, 1]),
        (AvgPool("m", "x", (2, 2), (2, 2), (1, 0), (3, 3, 2)), [0, NAN, NAN], [1, 0, 1]),
        (AvgPool("m", "x", (2, 2), (2, 2), (0, 0), (3, 2, 2)), [0, -2, NAN], [1, 0, 1]),
        (MaxPool("m", "x", (2, 2), (2, 2), (1, 1), (3, 3, 3)), [0, -2, NAN], [1, 0, 1]),
        (Pad("p", "x", ONE, 1, 2, (6, 4, 4)), [0, 0, -2, NAN, 0, 0], [1, 1, 0, 1, 1, 1]),
    ],
)  # fmt: skip
def test_what_is_known_of_channels(node: Node, constant: list[float], positive: list[int]) -> None:
    found = known(node, {"x": X, "y": Y})
    np.testing.assert_array_equal(found.constant, np.array(constant, float))
    assert found.positive.tolist() == [bool(flag) for flag in positive]
    assert never_negative(found) is all(positive)
    assert found.zero.tolist() == [value == 0 for value in constant]


def test_a_convolution_whose_input_is_gone_reads_another_tensor() -> None:
    """The pool of the pruned branch goes; a kernel that fits the sizes takes its place."""
    nodes = (
        image(2, 6),
        conv("a", "input", np.ones((1, 2)), 6),
        MaxPool("pool", "a", (2, 2), (2, 2), NONE, (1, 3, 3)),
        conv("dead", "pool", np.zeros((2, 1)), 3, bias=[1, 2]),
        Conv("b", "input", np.ones((2, 2, 2, 2)), np.zeros(2), (2, 2), NONE, (2, 3, 3)),
        Add("add", "b", "dead", (2, 3, 3)),
    )
    graph = verify(Graph(nodes, "add"))
    left = remove_dead(graph)
    assert [node.name for node in left.nodes] == ["input", "dead", "b", "add"]
    grounded = left.node("dead")
    assert isinstance(grounded, Conv)
    assert (grounded.input, grounded.weight.shape) == ("input", (2, 2, 4, 4))
    assert (grounded.padding, grounded.stride) == (NONE, ONE)
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    assert torch.equal(run_float(left, x), run_float(graph, x))


def test_a_grounded_convolution_that_grows_is_padded() -> None:
    nodes = (
        image(1, 4),
        conv("a", "input", np.ones((1, 1))),
        Upsample("up", "a", (2, 1), (1, 8, 4)),
        Conv("dead", "up", np.zeros((1, 1, 1, 1)), np.ones(1), ONE, NONE, (1, 8, 4)),
        Upsample("other", "input", (2, 1), (1, 8, 4)),
        Add("add", "dead", "other", (1, 8, 4)),
    )
    left = remove_dead(verify(Graph(nodes, "add")))
    grounded = left.node("dead")
    assert isinstance(grounded, Conv)
    assert (grounded.input, grounded.padding, grounded.weight.shape[2:]) == (
        "input",
        (2, 0),
        (1, 1),
    )


# --- equalisation, shared values ----------------------------------------------------------------


def pair(first: list[float], second: list[float], *more: Node) -> Graph:
    shape = (len(first), 4, 4)
    nodes = (
        image(),
        conv("a", "input", np.array(first)[:, None], bias=np.ones(len(first))),
        ReLU("r", "a", shape),
        conv("b", "r", np.array(second)[None]),
    )
    return verify(Graph((*nodes, *more), (more or nodes)[-1].name))


def test_equalised_weights_and_their_limits() -> None:
    graph = pair([1.0, 1.0, 16.0, 0.0, 5.0, 0.5], [4.0, 100.0, 0.01, 7.0, 0.0, -0.5])
    left = equalise(graph)
    a, b = left.node("a"), left.node("b")
    assert isinstance(a, Conv)
    assert isinstance(b, Conv)
    assert a.weight.ravel().tolist() == pytest.approx([2.0, 4.0, 4.0, 0.0, 5.0, 0.5])
    assert b.weight.ravel().tolist() == pytest.approx([2.0, 25.0, 0.04, 7.0, 0.0, -0.5])
    assert a.bias.tolist() == pytest.approx([2.0, 4.0, 0.25, 1.0, 1.0, 1.0])


def test_a_chain_of_layers_settles() -> None:
    """Over three layers the largest weights become equal after several rounds."""
    graph = pair([1.0], [4.0], ReLU("s", "b", (1, 4, 4)), conv("c", "s", [[2.0]]))
    left = equalise(graph)
    weights = [node.weight.item() for node in left.nodes if isinstance(node, Conv)]
    assert weights == pytest.approx([2.0, 2.0, 2.0], rel=1e-5)
    alone = pair([1.0], [4.0], Add("sum", "b", "r", (1, 4, 4)))
    assert [n.weight.item() for n in equalise(alone).nodes if isinstance(n, Conv)] == [1.0, 4.0]


def test_shared_values_by_hand() -> None:
    """1, 6.5, 12 at first; borders at 3.75 and 9.25; then the means 2 and 11, and 6.5 unused."""
    found = share(np.array([[0.0, 12, 1, 10], [2, 3, 0, 11]]), bits=2)
    assert found.values.tolist() == [0.0, 2.0, 6.5, 11.0]
    assert found.codes.tolist() == [[0, 3, 1, 3], [1, 1, 0, 3]]
    assert found.codes.dtype == np.uint8
    few = share(np.array([5.0, -1.0, 0.0, 5.0]), bits=2)
    assert few.values.tolist() == [0.0, -1.0, 5.0, 0.0]
    assert few.codes.tolist() == [2, 1, 0, 2]
    assert few.decode().tolist() == [5.0, -1.0, 0.0, 5.0]
    nothing = share(np.zeros((2, 1)), bits=3)
    assert (nothing.values.tolist(), nothing.codes.tolist()) == ([0.0] * 8, [[0], [0]])


def test_a_weight_between_two_values_goes_up() -> None:
    """-3, 0, 3 at first; 1.5 lies on a border and stays; the centre at zero is moved off it."""
    found = share(np.array([-3.0, -1.0, 1.0, 3.0, 1.5]), bits=2)
    assert found.values[0] == 0.0
    assert found.values[1:].tolist() == pytest.approx([-3.0, 0.0, 2.25])
    assert 0 < found.values[2] < 1e-300
    assert found.codes.tolist() == [1, 2, 2, 3, 3]


# --- shapes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "sources", "shape"),
    [
        (Concat("c", ("a", "b"), (0, 0, 0)), [(2, 4, 5), (3, 4, 5)], (5, 4, 5)),
        (Concat("c", ("a", "b"), (0, 0, 0)), [(2, 4, 5), (3, 5, 5)], (0, 0, 0)),
        (Concat("c", ("a", "b"), (0, 0, 0)), [(2, 4, 5), (3, 4, 4)], (0, 0, 0)),
        (Select("s", "a", np.array([1, 0, 1]), (0, 0, 0)), [(2, 4, 5)], (3, 4, 5)),
        (Select("s", "a", np.array([2]), (0, 0, 0)), [(2, 4, 5)], (0, 0, 0)),
        (Select("s", "a", np.array([-1]), (0, 0, 0)), [(2, 4, 5)], (0, 0, 0)),
        (Select("s", "a", np.array([], np.int64), (0, 0, 0)), [(2, 4, 5)], (0, 0, 0)),
        (Upsample("u", "a", (3, 2), (0, 0, 0)), [(2, 4, 5)], (2, 12, 10)),
        (Spread("p", "a", np.ones((2, 4)), np.ones((3, 5)), NONE), [(2, 4, 5)], (2, 2, 3)),
        (Spread("p", "a", np.ones((2, 5)), np.ones((3, 5)), NONE), [(2, 4, 5)], (0, 0, 0)),
        (Spread("p", "a", np.ones((2, 4)), np.ones((3, 4)), NONE), [(2, 4, 5)], (0, 0, 0)),
    ],
)
def test_shapes_of_moves(node: Any, sources: list[Any], shape: tuple[int, ...]) -> None:
    assert moved_shape(node, sources) == shape


def test_windows_of_any_geometry() -> None:
    assert output_size((1, 9, 10), (3, 2), (2, 3), (1, 0)) == (5, 3)
    assert output_size((1, 9, 10), (3, 2), (2, 3), (1, 0), (1, 2)) == (5, 4)
    assert output_size((1, 9, 10), (3, 2), (2, 3), (1, 0), (2, 1)) == (6, 4)
    places = kernel_positions((9, 10), (2, 3), (2, 3))
    assert len(places) == 6
    assert places[4] == (slice(1, 9, 2), slice(1, 10, 3))
    assert [part.tolist() for part in windows(5, 3)] == [[0, 1, 3], [2, 4, 5]]
    assert [part.tolist() for part in windows(6, 3)] == [[0, 2, 4], [2, 4, 6]]
    assert uniform(*windows(6, 3)) == (2, 2)
    assert uniform(*windows(6, 1)) == (6, 6)
    assert uniform(*windows(4, 3)) == (2, 1)
    assert uniform(*windows(5, 3)) is None
    assert uniform(np.array([1, 2]), np.array([3, 4])) is None
    assert uniform(np.array([0, 0]), np.array([1, 1])) is None
    assert averages(np.array([0, 1]), np.array([2, 4]), 4).tolist() == [
        [0.5, 0.5, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3],
    ]  # fmt: skip


def test_inputs_are_renamed() -> None:
    names = {"a": "x", "b": "y"}
    add = renamed(Add("n", "b", "c", SHAPE), names)
    concat = renamed(Concat("n", ("a", "c", "b"), SHAPE), names)
    relu = renamed(ReLU("n", "a", SHAPE), names)
    assert (add.inputs, concat.inputs, relu.inputs) == (("y", "c"), ("x", "c", "y"), ("x",))
    source = image()
    assert renamed(source, names) is source


def test_the_only_consumer() -> None:
    graph = pair([1.0], [4.0], Add("sum", "b", "r", (1, 4, 4)))
    assert graph.only_consumer("a") is graph.node("r")
    assert graph.only_consumer("r") is None
    assert graph.only_consumer("sum") is None
    with pytest.raises(KeyError):
        graph.node("nothing")


def test_parameters_go_out_and_in_again() -> None:
    graph = pair([1.0, 2.0], [4.0, 5.0])
    own = parameters(graph)
    assert list(own) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    doubled = with_parameters(graph, {name: (2 * v).astype(np.float32) for name, v in own.items()})
    for name, value in parameters(doubled).items():
        assert value.dtype == np.float64
        assert np.array_equal(value, 2 * own[name])
    with pytest.raises(ValueError, match=r"b\.bias: shape \(2,\), the graph's is \(1,\)"):
        with_parameters(graph, {**own, "b.bias": np.zeros(2)})
    with pytest.raises(KeyError):
        with_parameters(graph, {"a.weight": own["a.weight"]})


# --- integer graphs that break a rule -----------------------------------------------------------

CLIP = Rescale(2, True, -127, 127)


def integers() -> tuple[IntNode, ...]:
    """Every kind of node with a rule of its own, in order."""
    weight = np.ones((2, 2, 1, 1), np.int8)
    first = IntConv("conv", "input", weight, np.zeros(2, np.int32), ONE, NONE, "input", 1, False,
                    CLIP, 8, (2, 4, 4))  # fmt: skip
    return (
        IntInput("input", (2, 4, 4), 1.0),
        first,
        IntAdd("add", "conv", "input", 0, 1, False, CLIP, (2, 4, 4)),
        IntMaxPool("max", "add", (2, 2), (2, 2), NONE, (2, 2, 2)),
        IntPad("pad", "max", (2, 2), 1, 2, (5, 1, 1)),
        IntConcat("two", ("pad", "pad"), (10, 1, 1)),
        IntSelect("one", "two", np.array([9, 0]), (2, 1, 1)),
        IntAvgPool("avg", "one", ONE, ONE, NONE, replace(CLIP, multiplier=3), (2, 1, 1)),
        IntRelu("relu", "avg", CLIP, (2, 1, 1)),
        replace(first, name="last", input="relu", residual=None, out_bits=16, shape=(2, 1, 1)),
    )


def verified(nodes: tuple[IntNode, ...], scales: set[str] | None = None) -> IntGraph:
    names = {node.name for node in nodes} if scales is None else scales
    return verify_integer(IntGraph(nodes, "last", dict.fromkeys(names, 1.0), (0.0,), (1.0,)))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("input", {"shape": (3, 4, 4)}, "conv: 2 input channels"),
        ("conv", {"weight": np.ones((2, 2, 1, 1))}, r"int8 weights and int32 \[2\]"),
        ("conv", {"bias": np.zeros(3, np.int32)}, r"int8 weights and int32 \[2\]"),
        ("conv", {"residual_shift": np.zeros(3, np.int32)}, "one shift per channel"),
        ("conv", {"residual_shift": np.zeros(2, np.int32)}, None),
        ("conv", {"rescale": replace(CLIP, shift=np.zeros(2, np.int32))}, None),
        ("conv", {"padding": (1, 0)}, r"conv: shape \(2, 4, 4\), its inputs give \(2, 6, 4\)"),
        ("add", {"shift_b": -1}, "add: adds"),
        ("add", {"b": "conv"}, None),
        ("max", {"after": (1, 0)}, None),
        ("max", {"after": (2, 0)}, r"max: shape .* give \(2, 3, 2\)"),
        ("max", {"padding": (0, 1)}, r"give \(2, 2, 3\)"),
        ("pad", {"stride": (1, 2)}, r"give \(5, 2, 1\)"),
        ("pad", {"before": 2}, r"give \(6, 1, 1\)"),
        ("two", {"parts": ("pad",)}, r"give \(5, 1, 1\)"),
        ("one", {"channels": np.array([10, 0])}, r"give \(0, 0, 0\)"),
        ("avg", {"kernel": (2, 1)}, r"give \(2, 0, 1\)"),
        ("avg", {"rescale": replace(CLIP, multiplier=-1)}, "a multiplier from 0 to 32767, not -1"),
        ("avg", {"rescale": replace(CLIP, multiplier=2**15)}, "not 32768 to 32768"),
        ("avg", {"rescale": replace(CLIP, multiplier=2**15 - 1, shift=31)}, None),
        ("avg", {"rescale": replace(CLIP, multiplier=0, shift=0)}, None),
        ("avg", {"rescale": replace(CLIP, multiplier=3, shift=32)}, "a shift from 0 to 31, not 32"),
        ("avg", {"rescale": replace(CLIP, multiplier=3, shift=-1)}, "a shift from 0 to 31, not -1"),
        ("avg", {"rescale": replace(CLIP, multiplier=np.ones(2, np.int32))}, None),
        ("avg", {"rescale": replace(CLIP, multiplier=np.ones(3, np.int32))}, "one multiplier or 2"),
        ("relu", {"input": "last"}, "relu: out of order"),
        ("relu", {"name": "avg"}, "avg: out of order or named twice"),
        ("relu", {"input": "one"}, r"'last', but \['avg', 'last'\] end the graph"),
        ("last", {"out_bits": 32}, None),
        ("last", {"out_bits": 24}, r"24 output bits, not one of \(8, 16, 32\)"),
        ("last", {"residual": "pad"}, r"its shortcut has shape \(5, 1, 1\)"),
    ],
)  # fmt: skip
def test_rules_of_integer_graphs(name: str, change: dict[str, Any], words: str | None) -> None:
    nodes = tuple(replace(n, **change) if n.name == name else n for n in integers())
    if words is None:
        assert verified(nodes).nodes == nodes
        return
    with pytest.raises(UnsupportedError, match=words):
        verified(nodes)


def test_integer_graphs_have_one_input_and_a_scale_each() -> None:
    nodes = integers()
    for broken in (nodes[1:], (nodes[0], replace(nodes[0], name="again"), *nodes[1:])):
        with pytest.raises(UnsupportedError, match="one input, its first node"):
            verified(broken)
    names = {node.name for node in nodes}
    for scales in (names - {"max"}, names | {"other"}):
        with pytest.raises(UnsupportedError, match="the output is 'last'"):
            verified(nodes, scales)
    assert Rescale(0, False, *FULL_RANGE).clips is False
    assert Rescale(0, False, *FULL_RANGE, 3).clips is True
    assert Rescale(0, False, -(2**31), 2**31 - 2).clips is True


# --- branches -----------------------------------------------------------------------------------


def test_branches_beside_shortcuts_with_and_without_convolutions() -> None:
    found = residual_branches(trace(ResNetLike(), (3, 32, 32)))
    assert ("layer1.0.conv1", "layer1.0.conv2") in found
    assert ("layer2.0.conv1", "layer2.0.conv2") in found  # the longer side, not the projection
    assert not any("downsample" in name for branch in found for name in branch)
    plain = (
        image(),
        conv("a", "input", [[1.0]]),
        ReLU("r", "a", (1, 4, 4)),
        Add("twice", "r", "r", (1, 4, 4)),
        conv("b", "twice", [[1.0]]),
        ReLU("s", "b", (1, 4, 4)),
        Add("sum", "twice", "s", (1, 4, 4)),
        Add("last", "sum", "b", (1, 4, 4)),
    )
    graph = verify(Graph(plain, "last"))
    assert residual_branches(graph) == []  # b is read by both additions
    joined = verify(Graph((*plain[:7], conv("end", "sum", [[1.0]])), "end"))
    assert residual_branches(joined) == [("b",)]


# --- passes -------------------------------------------------------------------------------------


def test_runs_of_pads_become_one() -> None:
    nodes = (
        image(2, 9),
        Pad("first", "input", (2, 1), 1, 0, (3, 5, 9)),
        Pad("second", "first", (2, 3), 2, 4, (9, 3, 3)),
        conv("c", "second", np.ones((1, 9)), 3),
    )
    merged = merge_pads(verify(Graph(nodes, "c")))
    pad = merged.node("first")
    assert isinstance(pad, Pad)
    assert (pad.stride, pad.before, pad.after, pad.shape) == ((4, 3), 3, 4, (9, 3, 3))
    assert len(merged.nodes) == 3
    both = (*nodes[:3], Pad("third", "first", (2, 3), 2, 4, (9, 3, 3)),
            Add("sum", "second", "third", (9, 3, 3)))  # fmt: skip
    assert len(merge_pads(verify(Graph(both, "sum"))).nodes) == 5


def test_a_norm_is_folded_only_where_nothing_else_reads_the_convolution() -> None:
    norm = BatchNorm("n", "a", np.array([2.0, 3.0]), np.array([1.0, -1.0]), (2, 4, 4))
    nodes = (image(), conv("a", "input", [[1.0], [5.0]], bias=[1, 2]), norm)
    folded = fold(verify(Graph(nodes, "n")))
    made = folded.node("a")
    assert isinstance(made, Conv)
    assert (made.weight.ravel().tolist(), made.bias.tolist()) == ([2.0, 15.0], [3.0, 5.0])
    both = fold(verify(Graph((*nodes, Add("s", "a", "n", (2, 4, 4))), "s")))
    diagonal = both.node("n")
    assert isinstance(diagonal, Conv)
    assert diagonal.weight[:, :, 0, 0].tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert diagonal.bias.tolist() == [1.0, -1.0]


def test_odd_means_become_convolutions_only_where_scales_meet() -> None:
    def graph(kernel: int, *after: Node) -> Graph:
        pool = AvgPool("mean", "input", (kernel, 1), ONE, NONE, (2, 5 - kernel, 4))
        return rearrange(verify(Graph((image(2), pool, *after), after[-1].name)))

    shape = (2, 2, 4)
    twice = Add("sum", "mean", "mean", shape)
    made = graph(3, twice).node("mean")
    assert isinstance(made, Conv)
    assert made.weight[0].reshape(2, 3).tolist() == [[1 / 3] * 3, [0.0] * 3]
    assert made.weight[1].reshape(2, 3).tolist() == [[0.0] * 3, [1 / 3] * 3]
    moved = Select("s", "mean", np.array([1, 0]), shape)
    assert isinstance(graph(3, moved, Add("sum", "s", "s", shape)).node("mean"), Conv)
    reader = Conv("c", "mean", np.ones((1, 2, 1, 1)), np.zeros(1), ONE, NONE, (1, 2, 4))
    assert isinstance(graph(3, reader).node("mean"), AvgPool)
    pooled = MaxPool("max", "mean", ONE, ONE, NONE, shape)
    assert isinstance(graph(3, pooled, replace(reader, input="max")).node("mean"), AvgPool)
    assert isinstance(graph(2, replace(twice, shape=(2, 3, 4))).node("mean"), AvgPool)


def test_what_the_output_does_not_need_goes() -> None:
    nodes = (
        image(),
        conv("a", "input", [[1.0]]),
        ReLU("r", "a", (1, 4, 4)),
        conv("b", "a", [[2.0]]),
    )
    assert [node.name for node in live(Graph(nodes, "b")).nodes] == ["input", "a", "b"]
    assert [node.name for node in live(Graph(nodes, "input")).nodes] == ["input"]


# --- operators ----------------------------------------------------------------------------------


class Body(nn.Module):
    """A layer around a function, which may use a few layers and a stored value."""

    def __init__(self, run: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.run = nn.ModuleList(layers), run
        self.register_buffer("stored", torch.tensor([0.5, -2.0, 3.0]).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, *self.layers)


def traced(run: Callable[..., Tensor], *layers: nn.Module, size: tuple[int, int] = (6, 7)) -> Graph:
    torch.manual_seed(0)
    model = Body(run, *layers).eval()
    graph = trace(model, (3, *size))
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected = model.double()(x).flatten(1)
    torch.testing.assert_close(run_float(graph, x), expected, rtol=1e-9, atol=1e-9)
    return graph


def conv2d(*arguments: Any, **options: Any) -> nn.Module:
    return nn.Conv2d(*arguments, **options)


@pytest.mark.parametrize(
    ("run", "layers"),
    [
        (lambda x, f: f(x), [conv2d(3, 2, (3, 5), padding="same")]),
        (lambda x, f: f(x), [conv2d(3, 2, 3, padding="valid", stride=(2, 1))]),
        (lambda x, f: f(x), [conv2d(3, 2, (2, 3), dilation=(3, 2), bias=False)]),
        (lambda x, f: f(x), [conv2d(3, 6, 3, groups=3, padding=(0, 1))]),
        (lambda x, f: f(x), [nn.BatchNorm2d(3, affine=False, eps=0.5)]),
        (
            lambda x, f: f(x.flatten(1)[:, 5:15]),
            [nn.Linear(10, 2)],
        ),
        (lambda x, f: f(x.flatten(1).flip(1)), [nn.Linear(126, 2, bias=False)]),
        (lambda x: x - 0.5, []),
        (lambda x: 0.5 - x, []),
        (lambda x: 2 * x + 1, []),
        (lambda x: x / 4, []),
        (lambda x: torch.rsub(x, 3.0), []),
        (lambda x: x.clamp(max=0.25), []),
        (lambda x: x.clamp(-0.5, 0.25), []),
        (lambda x: x.clamp_min(0.0), []),
        (lambda x: x.clamp_max(0.5), []),
        (lambda x: F.hardtanh(x), []),
        (lambda x: F.hardtanh(x, 0.0, 0.5), []),
        (lambda x: F.relu6(4 * x), []),
        (lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), []),
        (lambda x: F.avg_pool2d(x, (2, 3), (2, 1), (1, 0)), []),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), []),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), []),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), []),
        (lambda x: F.max_pool2d(x, (2, 3), (2, 2), (1, 0), ceil_mode=True), []),
        (lambda x: F.adaptive_avg_pool2d(x, (4, 7)), []),
        (lambda x: F.adaptive_avg_pool2d(x, (6, 7)), []),
        (lambda x: F.adaptive_avg_pool2d(x, (3, 1)), []),
        (lambda x: F.adaptive_max_pool2d(x, (3, 7)), []),
        (lambda x: F.adaptive_max_pool2d(x, (6, 7)), []),
        (lambda x: x.mean((-2, -1)), []),
        (lambda x: x.mean((2, 3), keepdim=True), []),
        (lambda x: torch.cat([x.mean((2, 3)), x.mean((2, 3))], 1), []),
        (lambda x: torch.cat([x, x], -3), []),
    ],
)
def test_operators_compute_what_torch_computes(
    run: Callable[..., Tensor], layers: list[nn.Module]
) -> None:
    traced(run, *layers)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda x: torch.add(x, x, alpha=2), "they must agree, with alpha=1"),
        (lambda x: torch.add(x, 1.0, alpha=2), "or has alpha"),
        (lambda x: torch.sub(x, 1.0, alpha=2), "or has alpha"),
        (lambda x: 2 / x, "reciprocal|divides by a computed tensor"),
        (lambda x: x / x, "at body|div"),
        (lambda x: x / 0.0, "NaN|inf"),
        (lambda x: F.pad(x, (0, 1)), "pads"),
        (lambda x: F.pad(x, (0, 0, 0, 1)), "pads"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 0, 1), value=1.0), "only zero channels"),
        (lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), "pads|cannot"),
        (lambda x: F.conv2d(x, x.mean((2, 3), keepdim=True)), "computed, not stored"),
        (
            conv2d(3, 2, (2, 3), padding="same"),
            r"pads unevenly \(padding='same' with a 2x3 kernel\)",
        ),
        (conv2d(3, 2, (3, 2), padding="same"), "with a 3x2 kernel"),
        (nn.Linear(7, 2), r"takes 7 features of a tensor of shape \(3, 6, 7\)"),
        (
            lambda x: F.adaptive_max_pool2d(x, (3, 7), return_indices=True)[1],
            "takes the places of the maxima",
        ),
        (lambda x: x.mean((1, 2)), r"over dimensions \[1, 2\]"),
        (lambda x: x.flatten(1).mean(1), "over dimensions"),
        (
            lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True, divisor_override=3),
            "divisor_override",
        ),
        (
            lambda x: F.batch_norm(x, None, None, training=True),
            "keeps no running statistics|traced",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_arguments_that_are_refused(run: Callable[..., Tensor], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        trace(run if isinstance(run, nn.Module) else Body(run), (3, 6, 7))


def test_sums_and_products_with_a_stored_value_per_channel() -> None:
    class Stored(Body):
        def forward(self, x: Tensor) -> Tensor:
            return (self.stored - x * self.stored) / self.stored + self.stored[0]

    model = Stored(lambda x: x)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph = trace(model, (3, 4, 4))
    torch.testing.assert_close(run_float(graph, x), model.double()(x).flatten(1))
    norms = [node for node in graph.nodes if isinstance(node, BatchNorm)]
    assert len(norms) == 4
    assert norms[0].scale.tolist() == [0.5, -2.0, 3.0]


def test_linear_layers_with_and_without_a_bias() -> None:
    layers = nn.Linear(12, 4, bias=False), nn.Linear(4, 2)
    graph = traced(lambda x, f, g: g(f(x.flatten(1))), *layers, size=(2, 2))
    first, second = (node for node in graph.nodes if isinstance(node, Conv))
    assert (first.weight.shape, first.bias.tolist()) == ((4, 3, 2, 2), [0.0] * 4)
    assert (second.weight.shape, second.shape) == ((2, 4, 1, 1), (2, 1, 1))


def test_images_are_normalised_by_zero_and_one_unless_said() -> None:
    model = nn.Conv2d(2, 3, 1)
    plain = trace(model, (2, 4, 4)).input
    assert (plain.mean, plain.std) == ((0.0, 0.0), (1.0, 1.0))
    given = trace(model, (2, 4, 4), (0.5, 0.25), (2.0, 3.0)).input
    assert (given.mean, given.std) == ((0.5, 0.25), (2.0, 3.0))
