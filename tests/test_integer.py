"""Integer arithmetic against Python's own integers, the executor against loops, the files."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpw_cli.errors import CheckpointError, UnsupportedError
from gpw_cli.graph import integer_io
from gpw_cli.graph.integer import (
    FULL_RANGE,
    IntAdd,
    IntAvgPool,
    IntConv,
    IntGraph,
    IntInput,
    IntMaxPool,
    IntNode,
    IntPad,
    IntRelu,
    IntUpsample,
    Rescale,
    apply_rescale,
    shift_right,
    store,
    wrap_int32,
)
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.quantization import matmul
from gpw_cli.quantization.reference import MOST, run, run_all

INT32 = st.integers(-(2**31), 2**31 - 1)


def exact(acc: int, n: int, rounding: bool, low: int, high: int) -> int:
    """The definition, on Python's integers (division floors)."""
    if rounding and n > 0:
        acc += 2 ** (n - 1)
    acc = (acc + 2**31) % 2**32 - 2**31
    value = acc // 2**n if n >= 0 else acc * 2**-n
    value = (value + 2**31) % 2**32 - 2**31
    return max(low, min(high, value))


@settings(deadline=None)
@given(INT32, st.integers(-8, 30), st.booleans(), st.sampled_from([-128, -127, 0]))
def test_rescale_is_its_definition(acc: int, n: int, rounding: bool, low: int) -> None:
    got = apply_rescale(np.array([[[acc]]]), Rescale(n, rounding, low, 127))
    assert int(got[0, 0, 0]) == exact(acc, n, rounding, low, 127)


@settings(deadline=None)
@given(
    st.lists(INT32, min_size=3, max_size=3), st.lists(st.integers(-4, 20), min_size=3, max_size=3)
)
def test_one_shift_a_channel(acc: list[int], shifts: list[int]) -> None:
    rescale = Rescale(np.array(shifts, np.int32), True, -127, 127)
    got = apply_rescale(np.array(acc).reshape(3, 1, 1), rescale)
    expected = [exact(a, n, True, -127, 127) for a, n in zip(acc, shifts, strict=True)]
    assert got.ravel().tolist() == expected


@settings(deadline=None)
@given(st.integers(-(2**20), 2**20), st.integers(1, 15))
def test_rounding_folds_into_the_bias_and_relu_moves_behind_the_shift(acc: int, n: int) -> None:
    half = 1 << (n - 1)
    rounded = int(shift_right(np.array([[[acc]]]), n, rounding=True)[0, 0, 0])
    assert rounded == (acc + half) >> n
    assert max(rounded, 0) == (max(acc, 0) + half) >> n == max(acc + half, 0) >> n


@settings(deadline=None)
@given(st.integers(-(2**40), 2**40), st.sampled_from([8, 16, 32]))
def test_store_keeps_the_low_bits(value: int, bits: int) -> None:
    expected = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    assert int(store(np.array(value), bits)) == expected
    assert bits != 32 or int(wrap_int32(np.array(value))) == expected


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("depth", [9, 600, 1400])  # the last may leave float32's exact integers
def test_matrix_products_are_exact(vnni: bool, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if vnni and not matmul.has_vnni():
        pytest.skip("this CPU has no VNNI")
    monkeypatch.setattr(matmul, "has_vnni", lambda: vnni)
    generator = torch.Generator().manual_seed(depth)
    a = torch.randint(-128, 128, (5, depth), generator=generator, dtype=torch.int8)
    b = torch.randint(-128, 128, (depth, 4), generator=generator, dtype=torch.int8)
    a[0], b[:, 0] = -128, -128
    got = matmul.int8_matmul(a, b, 128 * 128 * depth)
    assert got.dtype == torch.int32
    assert torch.equal(got.long(), a.long() @ b.long())


def conv_loops(x: np.ndarray, node: IntConv, residual: np.ndarray | None) -> np.ndarray:
    """One image [C, H, W], one output at a time, Python's integers."""
    high, wide = node.weight.shape[2:]
    padded = np.pad(x.astype(object), [(0, 0), *((p, p) for p in node.padding)])
    result = np.zeros(node.shape, np.int64)
    for o, i, j in np.ndindex(*node.shape):
        top, left = i * node.stride[0], j * node.stride[1]
        window = padded[:, top : top + high, left : left + wide]
        acc = int((window * node.weight[o].astype(object)).sum()) + int(node.bias[o])
        if residual is not None:
            s = _at(node.residual_shift, o)
            value = int(residual[o, i, j])
            acc += value << s if s >= 0 else (value + (1 << (-s - 1))) >> -s
        acc = max(acc, 0) if node.relu else acc
        rescale = node.rescale
        value = exact(acc, _at(rescale.shift, o), rescale.rounding, rescale.low, rescale.high)
        result[o, i, j] = store(np.array(value), node.out_bits)
    return result


def _at(shift: Any, channel: int) -> int:
    return int(shift[channel]) if isinstance(shift, np.ndarray) else shift


def _graph(*nodes: IntNode) -> IntGraph:
    scales = {node.name: 0.5 for node in nodes}
    return verify_integer(IntGraph(nodes, nodes[-1].name, scales, (0.0,), (1.0,)))


LIMITS = st.sampled_from([(-127, 127), (0, 127), (3, 100), FULL_RANGE])


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_convolution_is_exact(data: st.DataObject) -> None:
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    in_, out, kernel = (
        draw(st.integers(1, 4)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([1, 3])),
    )
    stride, padding = draw(st.sampled_from([1, 2])), draw(st.integers(0, 1))
    bits = draw(st.sampled_from([8, 16, 32]))
    per_channel, relu, add = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    size = (5 + 2 * padding - kernel) // stride + 1

    def shifts(low: int, high: int) -> Any:
        values = rng.integers(low, high, out).astype(np.int32)
        return values if per_channel else int(values[0])

    node = IntConv(
        name="conv",
        input="input",
        weight=rng.integers(-128, 128, (out, in_, kernel, kernel)).astype(np.int8),
        bias=rng.integers(-(2**16), 2**16, out).astype(np.int32),
        stride=(stride, stride),
        padding=(padding, padding),
        residual="branch" if add else None,
        residual_shift=shifts(0 if per_channel else -3, 8),
        relu=relu,
        rescale=Rescale(shifts(-2, 12), draw(st.booleans()), *draw(LIMITS)),
        out_bits=bits,
        shape=(out, size, size),
    )
    source = IntInput("input", (in_, 5, 5), 1.0)
    branch = replace(node, name="branch", residual=None, residual_shift=0, out_bits=8, relu=False)
    graph = _graph(source, branch, node) if add else _graph(source, node)
    x = rng.integers(-128, 128, (2, in_, 5, 5)).astype(np.int8)
    tensors = run_all(graph, x)
    for image in range(2):
        residual = conv_loops(x[image], branch, None) if add else None
        expected = conv_loops(x[image], node, residual)
        np.testing.assert_array_equal(tensors["conv"][image], expected)
    assert run(graph, x).shape == (2, out * size * size)
    assert tensors["conv"].dtype == np.dtype(f"int{bits}")


def _mixed() -> IntGraph:
    """Every kind of node once, scalar and per-channel shifts."""
    rng = np.random.default_rng(0)

    def conv(name: str, source: str, out: int, in_: int, size: int, shape: Any) -> IntConv:
        weight = rng.integers(-9, 10, (out, in_, size, size)).astype(np.int8)
        bias = rng.integers(-99, 99, out).astype(np.int32)
        shift = np.arange(out, dtype=np.int32)
        rescale = Rescale(shift, True, -127, 127)
        return IntConv(
            name, source, weight, bias, (1, 1), (size // 2,) * 2, None, 0, False, rescale, 8, shape
        )

    last = conv("last", "avg", 3, 4, 1, (3, 1, 1))
    return _graph(
        IntInput("input", (2, 6, 6), 0.25),
        conv("first", "input", 2, 2, 3, (2, 6, 6)),
        IntRelu("relu", "first", Rescale(-1, False, 0, 127), (2, 6, 6)),
        IntAdd("add", "relu", "input", 2, 0, True, Rescale(1, True, 0, 127), (2, 6, 6)),
        IntMaxPool("max", "add", (3, 3), (2, 2), (1, 1), (2, 3, 3)),
        IntPad("pad", "max", (2, 2), 1, 1, (4, 2, 2)),
        IntAvgPool("avg", "pad", (2, 2), (2, 2), (0, 0), Rescale(2, True, -127, 127), (4, 1, 1)),
        replace(last, out_bits=32, rescale=Rescale(0, True, *FULL_RANGE)),
    )


def test_every_node_against_numpy() -> None:
    graph = _mixed()
    x = np.random.default_rng(1).integers(-128, 128, (3, 2, 6, 6)).astype(np.int8)
    t = {name: value.astype(np.int64) for name, value in run_all(graph, x).items()}
    first = graph.node("first")
    assert isinstance(first, IntConv)
    for image in range(3):
        np.testing.assert_array_equal(t["first"][image], conv_loops(x[image], first, None))
    np.testing.assert_array_equal(t["relu"], (np.maximum(t["first"], 0) * 2).clip(0, 127))
    total = np.maximum(4 * t["relu"] + t["input"], 0)
    np.testing.assert_array_equal(t["add"], ((total + 1) >> 1).clip(0, 127))
    around = np.pad(t["add"], [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-128)
    for i, j in np.ndindex(3, 3):
        window = around[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        np.testing.assert_array_equal(t["max"][:, :, i, j], window.max((2, 3)))
    np.testing.assert_array_equal(t["pad"][:, 1:3], t["max"][:, :, ::2, ::2])
    assert not t["pad"][:, [0, 3]].any()
    np.testing.assert_array_equal(t["avg"][:, :, 0, 0], (t["pad"].sum((2, 3)) + 2) >> 2)
    last = graph.node("last")
    assert isinstance(last, IntConv)
    logits = t["avg"][:, :, 0, 0] @ last.weight[:, :, 0, 0].T.astype(np.int64) + last.bias
    np.testing.assert_array_equal(run(graph, x), logits)


def test_pixels_are_repeated_along_rows_and_columns() -> None:
    nodes = (IntInput("input", (2, 2, 3), 1.0), IntUpsample("u", "input", (2, 3), (2, 4, 9)))
    graph = IntGraph(nodes, "u", {"input": 1.0, "u": 1.0}, (0.0,) * 2, (1.0,) * 2)
    x = np.arange(-12, 12, dtype=np.int8).reshape(2, 2, 2, 3)
    found = run_all(graph, x)
    np.testing.assert_array_equal(found["u"], x.repeat(2, 2).repeat(3, 3))
    assert set(found) == {"input", "u"}


def test_threads_share_the_batches_and_keep_their_order() -> None:
    graph, threads = _mixed(), torch.get_num_threads()
    x = np.random.default_rng(2).integers(-128, 128, (2 * MOST + 1, 2, 6, 6)).astype(np.int8)
    try:
        torch.set_num_threads(2)
        shared = run(graph, x)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        np.testing.assert_array_equal(shared, run(graph, x))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(shared, run_all(graph, x)["last"][:, :, 0, 0])


def test_a_rescale_without_clip_stores_the_low_byte() -> None:
    rescale = Rescale(0, False, *FULL_RANGE)
    graph = _graph(
        IntInput("input", (1, 1, 2), 1.0),
        IntAdd("add", "input", "input", 0, 0, True, rescale, (1, 1, 2)),
    )
    x = np.array([100, -5], np.int8).reshape(1, 1, 1, 2)
    assert not rescale.clips
    assert run(graph, x).tolist() == [[200 - 256, 0]]


def test_saved_graphs_load_equal(tmp_path: Path) -> None:
    graph = _mixed()
    integer_io.save(graph, tmp_path)
    loaded = integer_io.load(tmp_path)
    assert loaded.output == graph.output
    assert (loaded.scales, loaded.mean, loaded.std) == (graph.scales, graph.mean, graph.std)
    for old, new in zip(graph.nodes, loaded.nodes, strict=True):
        assert type(old) is type(new)
        for field in fields(old):
            _equal(getattr(old, field.name), getattr(new, field.name))
    x = np.random.default_rng(2).integers(-128, 128, (2, 2, 6, 6)).astype(np.int8)
    np.testing.assert_array_equal(run(loaded, x), run(graph, x))


def _equal(old: Any, new: Any) -> None:
    if isinstance(old, Rescale):
        for field in fields(old):
            _equal(getattr(old, field.name), getattr(new, field.name))
    else:
        np.testing.assert_array_equal(old, new)
        assert type(old) is type(new)


@pytest.mark.parametrize("name", [integer_io.ARRAYS, integer_io.GRAPH])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    integer_io.save(_mixed(), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="quantize again"):
        integer_io.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError):
        integer_io.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("first", {"shape": (2, 5, 5)}, "shape"),
        ("first", {"out_bits": 16}, "16 output bits"),
        ("first", {"bias": np.zeros(2, np.int64)}, "int32"),
        ("first", {"rescale": Rescale(np.zeros(3, np.int32), True, 0, 1)}, "one shift per channel"),
        ("first", {"residual": "relu"}, "out of order"),
        ("add", {"shift_a": -1}, "adds"),
        ("last", {"input": "max"}, "shape|channels"),
    ],
)
def test_broken_integer_graphs_are_refused(name: str, change: dict[str, Any], words: str) -> None:
    graph = _mixed()
    nodes = tuple(replace(n, **change) if n.name == name else n for n in graph.nodes)
    with pytest.raises(UnsupportedError, match=words):
        verify_integer(replace(graph, nodes=nodes))
