"""Edges of the lowering's parts: bounds, windows, tensors in DRAM, constants in spare channels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from integer_graphs import GraphMaker
from vta_programs import compile_graph, timing, vta_spec

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import IntConcat, IntConv, IntGraph, IntSelect, Rescale
from gpw_cli.quantization.reference import run
from gpw_cli.targets.vta.functional.simulator import simulate
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import PLAIN
from gpw_cli.targets.vta.isa.instructions import AluOp
from gpw_cli.targets.vta.lowering.bounds import Bounds, any_int8, conv_bounds, stored
from gpw_cli.targets.vta.lowering.constant_channels import inner_taps, offered, producing, riding
from gpw_cli.targets.vta.lowering.epilogue import AluEpilogue, shorten, step
from gpw_cli.targets.vta.lowering.gathers import Gathers
from gpw_cli.targets.vta.lowering.layout import DramImage, Tensor
from gpw_cli.targets.vta.lowering.legalize import legalize
from gpw_cli.targets.vta.lowering.passes import lower
from gpw_cli.targets.vta.lowering.sram import sram_layout
from gpw_cli.targets.vta.lowering.tensors import declare
from gpw_cli.targets.vta.lowering.tile_ir import Term, weight_tiles
from gpw_cli.targets.vta.lowering.tiling import _check_padding, extent, tile_sizes, window
from gpw_cli.targets.vta.target import unit_costs

SPEC = vta_spec()
OUT_WIDER = vta_spec(log_block_in=3, log_inp_buff_size=14, log_wgt_buff_size=17)
LOW, HIGH = -(2**31), 2**31 - 1


def bounds(low: list[int], high: list[int]) -> Bounds:
    return Bounds(np.array(low, np.int64), np.array(high, np.int64))


def both(found: Bounds) -> tuple[list[int], list[int]]:
    return found.low.tolist(), found.high.tolist()


def test_bounds_of_channels() -> None:
    own = bounds([-5, 0, 0], [7, 0, 3])
    assert own.zero.tolist() == [False, True, False]
    assert both(own.plus(np.array([1, 2, 3]))) == ([-4, 2, 3], [8, 2, 6])
    assert both(own.plus(own)) == ([-10, 0, 0], [14, 0, 6])
    assert both(own.shifted(np.array([1, 2, -2]))) == ([-3, 0, 0], [3, 0, 12])
    assert both(own.clipped(-1, 2)) == ([-1, 0, 0], [2, 0, 2])
    assert both(any_int8(2)) == ([-128] * 2, [127] * 2)
    for low, high, over in ((LOW, HIGH, False), (LOW - 1, 0, True), (0, HIGH + 1, True)):
        edge = bounds([low, 0], [high, 0])
        assert edge.overflow is over
        assert both(edge.wrapped()) == (([LOW] * 2, [HIGH] * 2) if over else both(edge))
    for low, high, fits in ((-128, 127, True), (-129, 0, False), (0, 128, False)):
        edge = bounds([low, 1], [high, 1])
        assert both(stored(edge, 8)) == (both(edge) if fits else ([-128] * 2, [127] * 2))
    assert both(stored(bounds([-(2**15)], [2**15]), 16)) == ([-(2**15)], [2**15 - 1])


def test_bounds_of_a_convolution() -> None:
    weight = np.array([[[[2, -3]], [[1, 0]]]], np.int64)
    source = bounds([1, -4], [5, -2])
    assert both(conv_bounds(weight, source, padded=False)) == ([2 - 15 - 4], [10 - 3 - 2])
    assert both(conv_bounds(weight, source, padded=True)) == ([0 - 15 - 4], [10 - 0 - 0])


def test_scratchpads_are_divided() -> None:
    found = sram_layout(SPEC, 10)
    assert (found.acc, found.vectors, found.spare) == (2048 - 4 - 10, 2048 - 14, 2048 - 4)
    assert (found.inp, found.constant, found.wgt) == (2047, 2047, 1024)
    assert sram_layout(SPEC, 2043).acc == 1
    with pytest.raises(UnsupportedError, match="2048 accumulator and 2048 input elements"):
        sram_layout(SPEC, 2044)
    two = vta_spec(log_inp_buff_size=5)
    assert (sram_layout(two, 0).inp, sram_layout(two, 0).constant) == (1, 1)
    with pytest.raises(UnsupportedError, match="and 1 input elements"):
        sram_layout(vta_spec(log_inp_buff_size=4), 0)


def term(kernel: tuple[int, int], stride: tuple[int, int] = (1, 1), **changes: Any) -> Term:
    tiles = weight_tiles(np.ones((1, 1, *kernel), np.int8), SPEC)
    return Term("x", tiles, kernel, stride, **changes)


def test_windows_of_output_tiles() -> None:
    tensor = Tensor("x", (16, 9, 7), 16)
    three = term((3, 2), (2, 1), padding=(1, 1))
    assert extent(three, 4, 5) == (9, 6)
    whole = window(three, tensor, 0, 5, 0, 8)
    assert (whole.rows, whole.cols, whole.row, whole.col) == (11, 9, 0, 0)
    assert (whole.top, whole.bottom, whole.left, whole.right) == (1, 1, 1, 1)
    assert (whole.padded, whole.pixels, whole.step) == (True, 99, 1)
    inner = window(three, tensor, 1, 2, 2, 3)
    assert (inner.rows, inner.cols, inner.row, inner.col) == (5, 4, 1, 1)
    assert (inner.top, inner.bottom, inner.left, inner.right) == (0, 0, 0, 0)
    assert not inner.padded
    below = window(three, tensor, 4, 1, 6, 2)
    assert (below.row, below.bottom, below.col, below.right) == (7, 1, 5, 1)
    skipping = term((1, 1), (3, 2))
    assert skipping.row_step == 3
    assert extent(skipping, 3, 4) == (3, 7)
    far = window(skipping, tensor, 0, 3, 0, 4)
    assert (far.rows, far.cols, far.bottom, far.right, far.step) == (3, 7, 0, 0, 3)
    assert tile_sizes(7) == [7, 4, 3, 2, 1]
    assert tile_sizes(1) == [1]


@pytest.mark.parametrize(
    ("kernel", "padding", "pixel", "fine"),
    [
        ((3, 3), (2, 2), 1, True),
        ((3, 3), (3, 0), 1, False),
        ((3, 3), (0, 3), 1, False),
        ((1, 1), (0, 0), 1, True),
        ((17, 17), (15, 15), 1, True),
        ((17, 17), (16, 0), 1, False),
        ((17, 17), (15, 7), 2, True),
        ((17, 17), (15, 8), 2, False),
    ],
)
def test_paddings_that_a_load_takes(
    kernel: tuple[int, int], padding: tuple[int, int], pixel: int, fine: bool
) -> None:
    one = term(kernel, padding=padding)
    if fine:
        _check_padding("conv", one, pixel)
        return
    with pytest.raises(UnsupportedError, match="conv: padding"):
        _check_padding("conv", one, pixel)


def test_tensors_in_dram() -> None:
    tensor = Tensor("x", (33, 4, 5), 32, offset=4096)
    assert (tensor.groups, tensor.live.tolist(), tensor.pixel(16)) == (2, [0, 1], 2)
    assert replace(tensor, stored=(1,)).live.tolist() == [1]
    wide = vta_spec(log_block_in=5)
    assert tensor.index(wide, 16, 1, 2, 3) == 4096 // 16 + ((1 * 4 + 2) * 5 + 3) * 2
    assert tensor.index(wide, 32, 1, 2, 3) == 4096 // 32 + (1 * 4 + 2) * 5 + 3
    logits = Tensor("y", (10, 1, 1), 16, value_bytes=4)
    assert logits.index(SPEC, 16, 0, 0, 0, 3) == 3
    found = logits.region(SPEC, "output")
    assert (found.shape, found.length, found.layout) == (
        (4, 1, 1, 1, 1, 16),
        64,
        "byte C/16 H W n 16c",
    )
    plain = tensor.region(wide, "intermediate")
    assert (plain.shape, plain.length) == ((2, 4, 5, 1, 32), 1280)
    source = Tensor("i", (3, 4, 5), 32, note=", so").region(wide, "input")
    assert (source.shape, source.layout) == ((1, 4, 5, 1, 32), "C/32 H W n 32c, so")


def test_regions_follow_one_another() -> None:
    dram, first = DramImage().reserve(Tensor("a", (16, 16, 16), 16).region(SPEC, "input"))
    assert (first.offset, first.length, dram.end) == (0, 4096, 4096)
    data = np.arange(6, dtype=np.int32).reshape(3, 2)
    dram, second = dram.add("b", data, layout="x", kind="bias")
    assert (second.offset, second.length, second.dtype, dram.end) == (4096, 24, "int32", 4120)
    dram, third = dram.reserve(Tensor("c", (16, 1, 1), 16).region(SPEC, "output"))
    assert (third.offset, dram.end) == (8192, 8208)
    assert [region.name for region in dram.regions] == ["a", "b", "c"]
    (written,) = dram.data
    assert (written[0], written[1].tobytes()) == (4096, data.tobytes())
    huge = np.zeros((2, 8192), np.int8)
    _, aligned = dram.add("d", huge, layout="x", kind="weight")
    assert aligned.offset == 16384


def small(outs: int, **changes: Any) -> IntConv:
    maker = GraphMaker((16, 6, 6))
    maker.conv("input", outs)
    node = maker.nodes[-1]
    assert isinstance(node, IntConv)
    return replace(node, **changes)


def epilogue_of(rescale: Rescale, count: int = 20, bound: int = 10**6) -> AluEpilogue:
    acc = bounds([-bound] * count, [bound] * count)
    return shorten(acc, True, rescale, "conv", SPEC, by_block=True)


def test_constants_that_spare_channels_hold() -> None:
    rescale = Rescale(9, True, 0, 127)
    epilogue = epilogue_of(rescale)
    assert offered(small(20), epilogue, SPEC) == (127,) * 11 + (1,)
    assert offered(small(30), epilogue, SPEC) == (127, 1)
    assert offered(small(31), epilogue, SPEC) == ()
    assert offered(small(32), epilogue, SPEC) == ()
    lower = small(20, rescale=replace(rescale, high=90))
    assert offered(lower, epilogue, SPEC) == (90,) * 11 + (1,)
    assert len(offered(small(20, rescale=replace(rescale, low=1)), epilogue, SPEC)) == 12
    assert offered(small(20, rescale=replace(rescale, low=2)), epilogue, SPEC) == ()
    assert offered(small(20, out_bits=16), epilogue, SPEC) == ()
    assert offered(small(20), epilogue, OUT_WIDER) == (127,) * 3 + (1,)
    assert producing((127, 1), epilogue).tolist() == [127 << 9, 1 << 9]
    for right, fine in ((16, True), (17, False)):
        far = epilogue_of(Rescale(right, True, 0, 127), bound=2**30)
        assert bool(offered(small(20), far, SPEC)) is fine
    added = replace(epilogue, steps=(step(AluOp.ADD, np.arange(20)), *epilogue.steps))
    assert offered(small(20), added, SPEC) == ()


def test_taps_that_never_meet_the_padding() -> None:
    node = small(20)
    assert inner_taps(node, (16, 6, 6)) == [(1, 1)]
    assert inner_taps(replace(node, padding=(0, 0), shape=(20, 4, 4)), (16, 6, 6)) == [
        (row, col) for row in range(3) for col in range(3)
    ]
    assert inner_taps(replace(node, stride=(2, 2), shape=(20, 3, 3)), (16, 6, 6)) == [
        (1, 1), (1, 2), (2, 1), (2, 2),
    ]  # fmt: skip
    assert inner_taps(replace(node, padding=(0, 1), shape=(20, 4, 6)), (16, 6, 6)) == [
        (0, 1), (1, 1), (2, 1),
    ]  # fmt: skip


def test_bias_that_rides_on_tiles_that_are_there() -> None:
    weight = np.zeros((32, 20, 3, 3), np.int8)
    weight[:16, 16:, 0, 1] = 1  # the first block of outputs has a tile of the last inputs at (0, 1)
    weight[16:, :16, 1, 1] = 1  # the second has none
    bias = np.arange(32, dtype=np.int64) * 40
    taps = [(0, 0), (0, 1), (1, 1)]
    more, left = riding(weight, bias, (127,) * 11 + (1,), taps, SPEC)
    assert more.shape == (32, 32, 3, 3)
    assert np.array_equal(more[:, :20], weight)
    assert not left[:16].any()
    assert np.array_equal(left[16:], bias[16:])
    extra = more[:16, 20:, 0, 1].astype(np.int64) @ np.array((127,) * 11 + (1,))
    assert np.array_equal(extra, bias[:16])
    assert np.count_nonzero(more[:, 20:]) == np.count_nonzero(more[:16, 20:, 0, 1])
    none, rest = riding(weight, bias, (127, 1), [(2, 2)], SPEC)
    assert np.array_equal(rest, bias)
    assert not none[:, 20:].any()


def gathered(order: np.ndarray) -> tuple[IntGraph, IntSelect]:
    maker = GraphMaker((3, 4, 4))
    first = maker.conv("input", 64)
    chosen = IntSelect("chosen", first, order, (len(order), 4, 4))
    maker._add(chosen)
    maker.conv("chosen", 16, 1)
    return maker.graph(), chosen


@pytest.mark.parametrize(("blocks", "absorbed"), [(2, True), (3, True), (4, False)])
def test_channels_from_too_many_blocks_are_copied(blocks: int, absorbed: bool) -> None:
    """32 channels fill two blocks; from up to three they are read in place."""
    order = np.arange(64).reshape(4, 16)[:blocks, : 32 // blocks + 1].T.ravel()[:32]
    graph, chosen = gathered(order)
    gathers = Gathers(graph, 16)
    assert gathers.absorb(chosen) is absorbed
    (part,) = gathers.slices("chosen")
    assert part.source == ("conv1" if absorbed else "chosen")
    (copied,) = gathers.parts_of(chosen)
    assert (copied.source, copied.ins.tolist()) == ("conv1", order.tolist())


def test_repeated_channels_are_slices_of_their_own() -> None:
    graph, chosen = gathered(np.array([5, 7, 5, 5, 6]))
    found = Gathers(graph, 16).parts_of(chosen)
    assert [(part.outs.tolist(), part.ins.tolist()) for part in found] == [
        ([0, 1, 4], [5, 7, 6]), ([2], [5]), ([3], [5]),
    ]  # fmt: skip
    weight = np.arange(5, dtype=np.int8).reshape(1, 5, 1, 1)
    assert np.flatnonzero(found[0].columns(weight, 64)).tolist() == [6, 7]
    assert found[0].columns(weight, 64).ravel()[[5, 6, 7]].tolist() == [0, 4, 1]


def test_joined_channels_that_something_else_reads_are_copied() -> None:
    maker = GraphMaker((3, 4, 4))
    a, b = maker.conv("input", 16), maker.conv("input", 16)
    joined = IntConcat("joined", (a, b, a), (48, 4, 4))
    maker._add(joined)
    maker.conv("joined", 48, 1, residual="joined")
    assert not Gathers(maker.graph(), 16).absorb(joined)
    maker.nodes[-1] = replace(maker.nodes[-1], residual=None)
    gathers = Gathers(maker.graph(), 16)
    assert gathers.absorb(joined)
    assert [(part.source, part.outs[0], len(part.outs)) for part in gathers.slices("joined")] == [
        (a, 0, 16), (a, 32, 16), (b, 16, 16),
    ]  # fmt: skip
    last = GraphMaker((3, 4, 4))
    first = last.conv("input", 16)
    last._add(IntConcat("end", (first, "input"), (19, 4, 4)))
    end = last.nodes[-1]
    assert isinstance(end, IntConcat)
    assert not Gathers(last.graph(), 16).absorb(end)


@pytest.mark.parametrize(
    ("bits", "read", "spec", "words"),
    [
        (16, True, SPEC, "the network's output is read by another layer"),
        (8, True, SPEC, None),
        (8, True, vta_spec(log_block_in=5), "the network's output is read by another layer"),
        (16, False, vta_spec(log_block_in=5), None),
    ],
)
def test_outputs_that_another_layer_reads(
    bits: int, read: bool, spec: VtaSpec, words: str | None
) -> None:
    maker = GraphMaker((3, 4, 4))
    first = maker.conv("input", 16, bits=8)
    if bits != 8:
        maker.nodes[-1] = replace(maker.nodes[-1], out_bits=bits)
    if read:
        maker.conv(first, 16)
    graph = replace(maker.graph(), output=first)
    kernels, _ = legalize(replace(graph, nodes=graph.nodes), spec)
    if words is None:
        found = declare(graph, PLAIN, kernels, spec)
        assert found[first].group == spec.block_out
        assert found[first].value_bytes == bits // 8
        return
    with pytest.raises(UnsupportedError, match=words):
        declare(graph, PLAIN, kernels, spec)


def tilings_of(graph: IntGraph, spec: VtaSpec) -> dict[str, int]:
    """Slots of each kernel's tiling; the program computes what the graph says."""
    program = compile_graph(graph, spec)
    x = np.random.default_rng(7).integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)
    np.testing.assert_array_equal(simulate(program, x).logits, run(graph, x))
    state = lower(graph, spec, unit_costs(spec, timing()))
    return {one.kernel.name: one.tiling.slots for one in state.tiled}


@pytest.mark.parametrize(("tiles", "slots"), [(1, 1), (2, 2)])
def test_a_weight_scratchpad_of_one_or_two_tiles(tiles: int, slots: int) -> None:
    """Two slots need a tile each, also of a pool, which multiplies by one diagonal tile."""
    maker = GraphMaker((16, 6, 6))
    pooled = maker.max_pool(maker.conv("input", 16, bias=0), 2, 2, 0)
    maker.conv(pooled, 16, 1)
    spec = vta_spec(log_wgt_buff_size=8 + tiles.bit_length() - 1)
    assert spec.wgt_depth == tiles
    assert tilings_of(maker.graph(), spec) == {"conv1": slots, "max2": slots, "conv3": slots}
