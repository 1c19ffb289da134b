"""The parts of lowering that promise something exact: ALU tails, bias tiles, micro-op order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import GraphMaker
from vta_programs import compile_graph, vta_spec

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import Rescale, apply_rescale, wrap_int32
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds
from gpw_cli.targets.vta.lowering.epilogue import shift_steps, shorten
from gpw_cli.targets.vta.lowering.loops import unroll
from gpw_cli.targets.vta.lowering.microops import smallest_distance, spread
from gpw_cli.targets.vta.lowering.tile_ir import (
    AluStep,
    bias_tiles,
    constant_input,
    diagonal_tiles,
    weight_tiles,
)

INT32 = st.integers(-(2**31), 2**31 - 1)
SPEC = vta_spec()


def alu(step: AluStep, acc: np.ndarray, spec: VtaSpec) -> np.ndarray:
    """As the hardware: only an immediate shifts left, all amounts in range."""
    operand = np.asarray(step.operand, np.int64)
    if step.op is AluOp.SHR:
        least, most = spec.shift_range
        assert (least if operand.ndim == 0 else 0) <= operand.min() <= operand.max() <= most
        return wrap_int32(acc >> np.maximum(operand, 0) << np.maximum(-operand, 0))
    if step.op is AluOp.ADD:
        return wrap_int32(acc + operand)
    return (np.minimum if step.op is AluOp.MIN else np.maximum)(acc, operand)


@settings(deadline=None)
@given(
    values=st.lists(INT32, min_size=2, max_size=2),
    margin=st.integers(0, 2**31),
    shift=st.integers(-31, 31) | st.lists(st.integers(-8, 12), min_size=2, max_size=2),
    rounding=st.booleans(),
    relu=st.booleans(),
    clip=st.sampled_from([(-128, 127), (0, 127), (-(2**31), 2**31 - 1), (-(2**15), 70_000)]),
    spec=st.sampled_from([SPEC, vta_spec(target="pynq")]),
)
def test_tail_equals_rescale(
    values: list[int],
    margin: int,
    shift: int | list[int],
    rounding: bool,
    relu: bool,
    clip: tuple[int, int],
    spec: VtaSpec,
) -> None:
    acc = np.array(values, np.int64)
    bounds = Bounds(np.maximum(acc - margin, -(2**31)), np.minimum(acc + margin, 2**31 - 1))
    n = shift if isinstance(shift, int) else np.array(shift, np.int32)
    rescale = Rescale(n, rounding, *clip)
    try:
        tail = shorten(bounds, relu, rescale, "node", spec)
    except UnsupportedError:
        least = int(np.min(n))
        assert least < 0
        assert least != np.max(n)
        assert max(-bounds.low.min(), bounds.high.max() + 256) > (2**31 - 1) >> -least
        return
    result = wrap_int32(acc + tail.fold)
    for step in tail.steps:
        result = alu(step, result, spec)
    start = np.maximum(acc, 0) if relu else acc
    expected = apply_rescale(start.reshape(2, 1, 1), rescale).reshape(2)
    np.testing.assert_array_equal(result, expected)
    assert (tail.bounds.low <= expected).all()
    assert (tail.bounds.high >= expected).all()


def test_tail_of_a_usual_layer_is_three_immediates() -> None:
    acc = Bounds(np.full(4, -(10**6)), np.full(4, 10**6))
    tail = shorten(acc, True, Rescale(9, True, -128, 127), "node", SPEC)
    assert [(step.op, step.operand) for step in tail.steps] == [
        (AluOp.SHR, 9),
        (AluOp.MAX, 0),
        (AluOp.MIN, 127),
    ]
    assert (tail.fold == 256).all()


def test_channels_that_shift_left_are_shifted_by_an_immediate() -> None:
    acc = Bounds(np.full(3, -(10**6)), np.full(3, 10**6))
    steps = shift_steps(np.array([-2, 0, 9]), acc, "node", SPEC)
    assert [(step.op, np.asarray(step.operand).tolist()) for step in steps] == [
        (AluOp.SHR, -2),
        (AluOp.SHR, [0, 2, 11]),
    ]
    with pytest.raises(UnsupportedError, match="node: channels shift by -2 to 9 bits"):
        shift_steps(np.array([-2, 0, 9]), Bounds(acc.low, np.full(3, 2**29)), "node", SPEC)


@pytest.mark.parametrize(
    ("right", "amounts"),
    [(15, [15]), (16, [15, 1]), (31, [15, 15, 1]), (-16, [-16]), (-17, [-16, -1])],
)
def test_the_hls_design_shifts_by_5_signed_bits(right: int, amounts: list[int]) -> None:
    acc = Bounds(np.zeros(2, np.int64), np.zeros(2, np.int64))
    steps = shift_steps(np.full(2, right), acc, "node", vta_spec(target="pynq"))
    assert [step.operand for step in steps] == amounts


def test_shift_beyond_a_word_is_refused() -> None:
    acc = Bounds(np.zeros(1, np.int64), np.zeros(1, np.int64))
    with pytest.raises(UnsupportedError, match="node: a shift by 32 bits"):
        shorten(acc, False, Rescale(32, True, -128, 127), "node", SPEC)


@settings(deadline=None)
@given(
    st.lists(st.integers(-480_000, 480_000), min_size=1, max_size=40),
    st.sampled_from(
        [
            SPEC,
            vta_spec(log_block_in=5),
            vta_spec(log_block_out=3, log_acc_buff_size=16, log_wgt_buff_size=17),
        ]
    ),
)
def test_bias_tiles_are_exact(bias: list[int], spec: VtaSpec) -> None:
    tiles = bias_tiles(np.array(bias), spec)
    assert tiles is not None
    total = np.zeros(-(-len(bias) // spec.block_out) * spec.block_out, np.int64)
    one = constant_input(spec)[0, 0].astype(np.int64)
    for block, tile in zip(tiles.out, tiles.tile, strict=True):
        begin = block * spec.block_out
        total[begin : begin + spec.block_out] += tiles.data[tile].astype(np.int64) @ one
    np.testing.assert_array_equal(total[: len(bias)], bias)
    assert not total[len(bias) :].any()


def test_bias_that_needs_many_tiles_is_left_to_the_alu() -> None:
    assert bias_tiles(np.array([2**20]), SPEC) is None


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_weight_tiles_are_the_surviving_ones(o: int, i: int, keep: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (o, i, 2, 1)) * (rng.random((o, i, 2, 1)) < keep**4)
    tiles = weight_tiles(weight.astype(np.int8), SPEC)
    assert tiles.data.any(axis=(1, 2)).all()
    rebuilt = np.zeros((48, 48, 2, 1), np.int64)
    for out, inp, row, col, tile in zip(
        tiles.out, tiles.inp, tiles.row, tiles.col, tiles.tile, strict=True
    ):
        rebuilt[16 * out :, 16 * inp :, row, col][:16, :16] = tiles.data[tile]
    np.testing.assert_array_equal(rebuilt[:o, :i], weight)


def test_diagonal_tiles_are_stored_once() -> None:
    tiles = diagonal_tiles(np.full(64, 4), 64, SPEC, kernel=(3, 3))
    assert tiles.data.shape == (1, 16, 16)
    assert len(tiles.out) == 36


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_spread_is_an_order_no_worse_than_the_given_one(blocks: list[int]) -> None:
    given_order = np.array(blocks)
    order = spread(given_order)
    assert sorted(order.tolist()) == list(range(len(blocks)))
    rested = smallest_distance(given_order[order])
    assert rested >= smallest_distance(np.sort(given_order))
    if len(set(blocks)) == len(blocks):
        assert rested == len(blocks) + 1


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 4))
def test_unroll_divides_the_tile(rows: int, cols: int, need: int) -> None:
    tall, wide = unroll(rows, cols, need)
    assert rows % tall == 0
    assert cols % wide == 0
    assert tall * wide >= min(need, rows * cols)


@pytest.mark.parametrize(("kernel", "padding"), [(1, 1), (3, 3), (33, 16)])
def test_padding_that_no_load_has_is_refused(kernel: int, padding: int) -> None:
    maker = GraphMaker((3, 4, 4))
    maker.conv("input", 4, kernel, padding=padding)
    with pytest.raises(UnsupportedError, match="allowed is less than the kernel and at most 15"):
        compile_graph(maker.graph(), SPEC)
