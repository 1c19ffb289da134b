"""Whole programs: what VTA computes from the encoded instructions is what the graph says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import GraphMaker
from vta_programs import compile_graph, vta_spec

from gpw_cli.config.target import load_target
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.integer import FULL_RANGE, IntGraph, IntMaxPool, Rescale
from gpw_cli.quantization.reference import run
from gpw_cli.targets.vta.check.rules import check
from gpw_cli.targets.vta.config import VtaConfig
from gpw_cli.targets.vta.export import export_program, load_exported
from gpw_cli.targets.vta.functional.simulator import simulate
from gpw_cli.targets.vta.isa.encoding import decode
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.input_layout import InputLayout
from gpw_cli.targets.vta.isa.instructions import AluInsn, AluOp, GemmInsn, MemInsn, MemType
from gpw_cli.targets.vta.isa.program import ROLES, Program
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts
from gpw_cli.targets.vta.target import Vta, unit_costs
from gpw_cli.targets.vta.timing.report import time_program

DEFAULT = vta_spec()
NARROW = vta_spec(log_block_in=3, log_block_out=3, log_acc_buff_size=15, log_wgt_buff_size=15)
WIDE = vta_spec(log_block_in=5, log_block_out=5)
IN_WIDER = vta_spec(log_block_in=5)
OUT_WIDER = vta_spec(log_block_in=3, log_inp_buff_size=14, log_wgt_buff_size=17)
TINY = vta_spec(log_inp_buff_size=9, log_wgt_buff_size=12, log_acc_buff_size=11)
TWO_ROWS = vta_spec(log_batch=1)
GEOMETRIES = {
    "default": DEFAULT,
    "narrow": NARROW,
    "wide": WIDE,
    "in wider": IN_WIDER,
    "out wider": OUT_WIDER,
    "tiny": TINY,
    "two rows": TWO_ROWS,
}


def assert_exact(graph: IntGraph, spec: VtaSpec = DEFAULT, images: int = 3) -> Program:
    program = compile_graph(graph, spec)
    size = (images, *graph.input.shape)
    x = np.random.default_rng(7).integers(-128, 128, size).astype(np.int8)
    np.testing.assert_array_equal(simulate(program, x).logits, run(graph, x))
    return program


def residual_network(keep: float = 1.0) -> IntGraph:
    """Every kind of node, both shortcuts, ragged channels."""
    maker = GraphMaker((3, 9, 9))
    x = maker.conv("input", 16)
    x = maker.conv(maker.conv(x, 16, keep=keep), 16, keep=keep, residual=x, residual_shift=8)
    pad = maker.pad(x, 2, 8, 8)
    y = maker.conv(x, 32, stride=2, keep=keep)
    y = maker.conv(y, 32, keep=keep, residual=pad, residual_shift=5)
    side = maker.conv(y, 40, 1, stride=2, relu=False, rescale=Rescale(8, True, -128, 127))
    z = maker.conv(y, 40, stride=2, keep=keep)
    z = maker.conv(z, 40, keep=keep, relu=False, rescale=Rescale(9, True, -128, 127))
    z = maker.add(z, side, 2, 0)
    z = maker.relu(maker.max_pool(z, 3, 1, 1))
    maker.conv(maker.avg_pool(z, 3, shift=3), 10, 1, relu=False, bits=32)
    return maker.graph()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_residual_network_on_every_geometry(name: str) -> None:
    assert_exact(residual_network(), GEOMETRIES[name])


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5])
def test_sparse_network(keep: float) -> None:
    assert_exact(residual_network(keep))


def conv_cases() -> dict[str, Callable[[GraphMaker], object]]:
    each = np.array([7, 9, 8, 10, 6, 9] * 4, np.int32)[:20]
    mixed = np.array([-2, 0, 3, 9] * 5, np.int32)
    signed = Rescale(8, False, -128, 127)
    full = Rescale(5, True, *FULL_RANGE)
    return {
        "5x5": lambda m: m.conv("input", 20, 5),
        "1x1 stride 2": lambda m: m.conv("input", 20, 1, 2),
        "3x3 stride 3": lambda m: m.conv("input", 20, 3, 3),
        "no padding": lambda m: m.conv("input", 20, 3, padding=0),
        "whole image": lambda m: m.conv("input", 20, (11, 8), padding=0),
        "one pixel": lambda m: m.conv("input", 20, 3, 11),
        "truncating": lambda m: m.conv("input", 20, relu=False, rescale=signed),
        "unclipped": lambda m: m.conv("input", 20, relu=False, rescale=full),
        "a shift a channel": lambda m: m.conv("input", 20, rescale=Rescale(each, True, 0, 127)),
        "shifts of both signs": lambda m: m.conv(
            "input", 20, relu=False, rescale=Rescale(mixed, True, -128, 127)
        ),
        "left shift": lambda m: m.conv("input", 20, rescale=Rescale(-20, True, 0, 127)),
        "bias of many tiles": lambda m: m.conv("input", 20, bias=400_000),
        "bias of any size": lambda m: m.conv(
            "input", 20, bias=2**31 - 1, rescale=Rescale(20, True, 0, 127)
        ),
        "16 bits": lambda m: m.conv(
            "input", 20, relu=False, rescale=Rescale(3, True, -(2**15), 2**15 - 1), bits=16
        ),
        "16 bits unclipped": lambda m: m.conv("input", 20, relu=False, bits=16),
        "32 bits clipped": lambda m: m.conv(
            "input", 20, relu=False, rescale=Rescale(0, False, -40_000, 40_000), bits=32
        ),
    }


@pytest.mark.parametrize("case", conv_cases())
def test_convolution(case: str) -> None:
    maker = GraphMaker((18, 11, 8))
    conv_cases()[case](maker)
    assert_exact(maker.graph())


@pytest.mark.parametrize("target", ["sim", "pynq"])
def test_amounts_of_shifts_are_what_the_hardware_takes(target: str) -> None:
    """Left by an immediate only; on an HLS target 5 signed bits. The checker would refuse more."""
    spec = replace(DEFAULT, target=target)
    maker = GraphMaker((20, 6, 6))
    each = np.array([-3, 0, 4, 12] * 5, np.int32)
    x = maker.conv("input", 20, rescale=Rescale(each, True, 0, 127))
    up = np.array([0, 7, 16, 2] * 5, np.int32)
    x = maker.conv(x, 20, residual="input", residual_shift=up, rescale=Rescale(20, True, 0, 127))
    maker.add(x, "input", 23, 1, rescale=Rescale(17, True, -128, 127))
    program = assert_exact(maker.graph(), spec)
    insns = [i for i in decode(spec, program.insn) if isinstance(i, AluInsn)]
    shifts = [i.imm for i in insns if i.alu_opcode is AluOp.SHR and i.use_imm]
    least, most = spec.shift_range
    assert (least, most) == ((-16, 15) if target == "pynq" else (-31, 31))
    assert min(shifts) < -3
    assert least <= min(shifts) < 0 < max(shifts) <= most


@pytest.mark.parametrize("shift", [-9, -1, 0, 6, 7, 10, 15, 17])
@pytest.mark.parametrize("bias", [2000, 2**31 - 1])
def test_residual_shift(shift: int, bias: int) -> None:
    maker = GraphMaker((20, 6, 6))
    maker.conv("input", 20, residual="input", residual_shift=shift, bias=bias)
    assert_exact(maker.graph())


@pytest.mark.parametrize("low", [0, 3, 8])
@pytest.mark.parametrize("spread", [2, 6, 9])
def test_residual_shift_of_each_channel(low: int, spread: int) -> None:
    shifts = np.random.default_rng(3).integers(low, low + spread + 1, 20).astype(np.int32)
    maker = GraphMaker((20, 6, 6))
    rescale = Rescale(7 if low else shifts, True, 0, 127)
    maker.conv("input", 20, residual="input", residual_shift=shifts, rescale=rescale)
    assert_exact(maker.graph())


def test_shortcut_on_the_output_scale_costs_no_shift() -> None:
    counts = []
    for shift in (9, 8):  # the rescale shifts by 9
        maker = GraphMaker((20, 6, 6))
        maker.conv("input", 20, residual="input", residual_shift=shift)
        program = assert_exact(maker.graph())
        insns = decode(program.spec, program.insn)
        counts.append(sum(isinstance(insn, AluInsn) for insn in insns))
    assert counts[0] < counts[1]


@pytest.mark.parametrize("shifts", [(0, 0), (6, 2), (9, 0), (0, 9), (9, 8), (12, 2), (14, 7)])
def test_add(shifts: tuple[int, int]) -> None:
    maker = GraphMaker((20, 6, 6))
    other = maker.conv("input", 20, 1)
    maker.add("input", other, *shifts, rescale=Rescale(max(shifts), True, -128, 127))
    assert_exact(maker.graph())


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), (7, 7, 0)]
)
@pytest.mark.parametrize("signed", [True, False])
def test_max_pool(kernel: int, stride: int, padding: int, signed: bool) -> None:
    maker = GraphMaker((20, 7, 7))
    maker.max_pool("input" if signed else maker.relu("input"), kernel, stride, padding)
    assert_exact(maker.graph())


@pytest.mark.parametrize("kernel", [(3, 2), (2, 3)])
def test_max_pool_whose_rows_are_no_columns(kernel: tuple[int, int]) -> None:
    maker = GraphMaker((20, 8, 7))
    rows, cols = (8 - kernel[0]) // 2 + 1, 7 + 2 - kernel[1] + 1
    maker.nodes.append(IntMaxPool("max", "input", kernel, (2, 1), (0, 1), (20, rows, cols)))
    assert_exact(maker.graph())


def test_window_that_the_input_scratchpad_cannot_hold_is_read_in_bands() -> None:
    """A slot of ``TINY`` holds 15 input elements: two rows of seven, not the window of 49."""
    maker = GraphMaker((16, 7, 7))
    maker.avg_pool("input", 7, shift=6)
    program = assert_exact(maker.graph(), TINY)
    # one accumulator, which rests three micro-ops after each tap; and the rounding term
    assert gemm_micro_ops(program) == 49 * 4 + 1
    loads = [insn for insn in decode(TINY, program.insn) if isinstance(insn, MemInsn)]
    sizes = [insn.x_size * insn.y_size for insn in loads if insn.memory_type is MemType.INP]
    assert sizes == [1, 14, 14, 14, 7]  # the constant input, then the bands


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(7, 1, 0), (2, 2, 0), (3, 2, 1)])
def test_average_pool(kernel: int, stride: int, padding: int) -> None:
    maker = GraphMaker((20, 7, 7))
    maker.avg_pool("input", kernel, stride, padding)
    assert_exact(maker.graph())


def test_pad_read_by_a_convolution() -> None:
    maker = GraphMaker((20, 7, 7))
    pad = maker.pad("input", 2, 5, 3)
    maker.conv(pad, 28, residual=pad, residual_shift=3)
    assert_exact(maker.graph())


def test_pad_as_output() -> None:
    maker = GraphMaker((20, 7, 7))
    maker.pad("input", 2, 5, 3)
    assert_exact(maker.graph())


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_random_networks(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(list(GEOMETRIES.values())))
    size = st.integers(1, 13)
    maker = GraphMaker(
        (data.draw(st.integers(1, 40)), data.draw(size), data.draw(size)),
        data.draw(st.integers(0, 2**20)),
    )
    x = "input"
    for _ in range(data.draw(st.integers(1, 4))):
        x = maker.conv(
            x,
            data.draw(st.integers(1, 50)),
            data.draw(st.sampled_from([1, 3])),
            data.draw(st.sampled_from([1, 2])),
            keep=data.draw(st.sampled_from([0.0, 0.2, 0.6, 1.0])),
            relu=data.draw(st.booleans()),
            rescale=Rescale(data.draw(st.integers(5, 11)), data.draw(st.booleans()), -128, 127),
        )
        if data.draw(st.booleans()):
            outs = maker.shape_of(x)[0]
            shift = data.draw(st.integers(-3, 12))
            x = maker.conv(x, outs, 3, keep=0.5, residual=x, residual_shift=shift)
    assert_exact(maker.graph(), spec, images=2)


def gemm_micro_ops(program: Program) -> int:
    return sum(
        (insn.uop_end - insn.uop_bgn) * insn.iter_out * insn.iter_in
        for insn in decode(program.spec, program.insn)
        if isinstance(insn, GemmInsn) and not insn.reset
    )


#: A first convolution of 16 outputs: image, kernel, stride, padding, bias; the layout's kernel
#: and constants, and the tile passes of one position.
FIRST_LAYERS = {
    "3 channels": ((3, 12, 12), 3, 1, 1, 2000, (3, 3), (127, 1), 2),
    "1 channel": ((1, 9, 9), 3, 1, 1, 2000, (3, 3), (127, 1), 1),
    "large bias": ((3, 8, 8), 3, 1, 1, 50_000, (3, 3), (127,) * 4 + (1,), 2),
    "too large a bias": ((3, 8, 8), 3, 1, 1, 100_000, (3, 3), (), 3),
    "no bias": ((3, 8, 8), 3, 1, 1, 0, (3, 3), (127, 1), 2),  # the rounding term
    "stride 2": ((3, 14, 14), 7, 2, 3, 2000, (1, 7), (127, 1), 14),
    "stride over kernel": ((3, 9, 9), 2, 3, 0, 2000, (2, 2), (127, 1), 1),
    "full channels": ((16, 8, 8), 3, 1, 1, 2000, (1, 1), (), 10),
}


@pytest.mark.parametrize("case", FIRST_LAYERS)
def test_host_lays_the_image_out(case: str) -> None:
    shape, kernel, stride, padding, bias, window, constants, passes = FIRST_LAYERS[case]
    maker = GraphMaker(shape)
    first = maker.conv("input", 16, kernel, stride, padding, bias=bias)
    maker.conv(first, 10, 1, relu=False, bits=32)
    program = assert_exact(maker.graph())
    assert program.input_layout.kernel == window
    assert program.input_layout.constants == constants
    _, rows, cols = maker.shape_of(first)
    second = 2  # a tile and the bias
    assert gemm_micro_ops(program) == (passes + second) * rows * cols


def test_small_bias_takes_one_constant() -> None:
    maker = GraphMaker((3, 8, 8))
    maker.conv("input", 16, bias=60, rescale=Rescale(9, False, 0, 127))
    assert assert_exact(maker.graph()).input_layout.constants == (1,)


def test_layout_of_a_pruned_first_layer_and_of_two_readers() -> None:
    maker = GraphMaker((3, 8, 8))
    first = maker.conv("input", 16)
    maker.nodes[-1].weight[:, :, :, 1:] = 0  # type: ignore[union-attr]
    maker.nodes[-1].weight[:, :, 1:, 0] = 0  # type: ignore[union-attr]
    maker.conv(first, 10, 1, relu=False, bits=32)
    program = assert_exact(maker.graph())
    assert program.input_layout.constants == (127, 1)  # one tile, the bias in it
    maker = GraphMaker((3, 8, 8))
    first, second = maker.conv("input", 16), maker.conv("input", 16)
    maker.add(first, second)
    assert assert_exact(maker.graph()).input_layout == InputLayout()


@pytest.mark.parametrize("bits", [8, 4])
def test_spare_channels_hold_the_bias_of_the_next_layer(bits: int) -> None:
    high = 2 ** (bits - 1) - 1
    maker = GraphMaker((16, 8, 8))
    rescale = Rescale(13 - bits, True, 0, high)
    first = maker.conv("input", 20, rescale=rescale)
    second = maker.conv(first, 12, residual=None, rescale=rescale, bias=1000)
    last = maker.conv(second, 12, residual=second, residual_shift=5, stride=1, rescale=rescale)
    maker.conv(last, 10, 1, relu=False, bits=32)
    program = assert_exact(maker.graph())
    # two output blocks of nine tiles and a bias, nine tiles on each of two blocks, nine with a
    # shortcut, one: no bias but the first layer's has a tile, and at 4 bits the last one's, as 7
    # shifted left by 9 would not fit the constants of the layer before
    assert gemm_micro_ops(program) == (2 * 9 + 2 + 18 + 9 + 1 + 1 + (bits == 4)) * 64


def test_constants_are_read_inside_the_image_only() -> None:
    for stride, padding, kernel in [(1, 1, 3), (2, 1, 3), (2, 2, 5), (3, 0, 2), (2, 1, 2)]:
        maker = GraphMaker((16, 9, 9))
        first = maker.conv("input", 9, 1)
        maker.conv(first, 24, kernel, stride, padding)
        assert_exact(maker.graph())


@pytest.mark.parametrize("keep", [0.2, 0.5])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_ragged_channels_on_every_geometry(name: str, keep: float) -> None:
    maker = GraphMaker((5, 9, 9))
    x = maker.conv("input", 13)
    x = maker.conv(maker.conv(x, 21, keep=keep), 13, keep=keep, residual=x, residual_shift=8)
    y = maker.conv(x, 27, stride=2, keep=keep, bias=90_000)
    y = maker.conv(maker.max_pool(y, 3, 1, 1), 27, keep=keep, rescale=Rescale(-1, True, -5, 100))
    maker.conv(maker.avg_pool(y, 3, shift=3), 10, 1, relu=False, bits=32)
    assert_exact(maker.graph(), GEOMETRIES[name])


def test_laid_out_image_in_an_export(tmp_path: Path) -> None:
    maker = GraphMaker((3, 8, 8))
    maker.conv(maker.conv("input", 16), 10, 1, relu=False, bits=32)
    program = compile_graph(maker.graph(), DEFAULT)
    image = np.random.default_rng(5).integers(-128, 128, (3, 8, 8)).astype(np.int8)
    export_program(program, image, tmp_path / "program")
    manifest = json.loads((tmp_path / "program" / "manifest.json").read_text())
    assert manifest["input"]["layout"] == {
        "kernel": [3, 3],
        "stride": [1, 1],
        "padding": [1, 1],
        "constants": [127, 1],
    }
    dram = np.frombuffer((tmp_path / "program" / "dram.bin").read_bytes(), np.int8)
    region = program.region("input")
    laid = dram[region.offset : region.offset + region.length].reshape(2, 8, 8, 16)
    laid = laid.transpose(0, 3, 1, 2).reshape(32, 8, 8)
    window = np.pad(image, ((0, 0), (1, 1), (1, 1)))[:, 4:7, 5:8]  # of row 4, column 5
    assert laid[:27, 4, 5].tolist() == window.transpose(1, 2, 0).reshape(-1).tolist()
    assert (laid[27:29] == np.array([127, 1])[:, None, None]).all()
    assert not laid[29:].any()
    back = load_exported(tmp_path / "program")
    assert np.array_equal(back.image, image)
    assert back.program.input_layout == program.input_layout


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_image_comes_back_from_its_layout(data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = tuple(data.draw(st.integers(1, size)) for size in kernel)
    padding = tuple(data.draw(st.integers(0, size - 1)) for size in kernel)
    layout = InputLayout(kernel, (stride[0], stride[1]), (padding[0], padding[1]), (127, 1))
    size = [
        step * data.draw(st.integers(1, 4)) + data.draw(st.integers(0, step - 1)) + tall - 2 * pad
        for step, tall, pad in zip(stride, kernel, padding, strict=True)
    ]
    if min(size) < 1:
        return
    image = np.random.default_rng(0).integers(-128, 128, (2, *size)).astype(np.int8)
    laid = layout.lay_out(image[None])[0]
    assert laid.shape == layout.shape(image.shape)
    reached = [
        step * (n - 1) + tall - pad
        for step, n, tall, pad in zip(stride, laid.shape[1:], kernel, padding, strict=True)
    ]
    inside = image.copy()
    inside[:, reached[0] :], inside[:, :, reached[1] :] = 0, 0
    assert np.array_equal(layout.image(laid, image.shape), inside)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("bias", [2000, 200_000])
def test_laid_out_image_on_every_geometry(name: str, bias: int) -> None:
    maker = GraphMaker((3, 9, 9))
    maker.conv(maker.conv("input", 20, bias=bias), 10, 1, relu=False, bits=32)
    assert_exact(maker.graph(), GEOMETRIES[name])


def test_pruned_tiles_cost_nothing() -> None:
    maker = GraphMaker((32, 8, 8))
    name = maker.conv("input", 32, keep=0.3, tile=16, bias=0, relu=False)
    node = maker.nodes[-1]
    maker.nodes[-1] = type(node)(**{**vars(node), "rescale": Rescale(0, False, -128, 127)})
    program = assert_exact(maker.graph())
    weight = node.weight.reshape(2, 16, 2, 16, 3, 3)  # type: ignore[union-attr]
    kept = int(weight.any(axis=(1, 3)).sum())
    assert 0 < kept < 36
    assert program.region(f"{name}.weight").shape == (kept, 16, 16)
    assert gemm_micro_ops(program) == kept * 64
    loads = [insn for insn in decode(program.spec, program.insn) if isinstance(insn, MemInsn)]
    assert sum(insn.x_size for insn in loads if insn.memory_type is MemType.WGT) == kept


def test_cycles_by_pass() -> None:
    maker = GraphMaker((16, 8, 8))
    x = maker.conv("input", 16)
    y = maker.conv(x, 16, residual=x, residual_shift=3)
    maker.conv(maker.avg_pool(y, 8, shift=6), 10, 1, relu=False, bits=32)
    report = time_program(
        compile_graph(maker.graph(), DEFAULT), load_target("vta", VtaConfig).timing
    )
    passes = dict(report.cycles_by_pass)
    assert sum(passes.values()) == report.cycles
    # an instruction takes its micro-ops and seven cycles; each convolution runs in four bands of
    # 16 pixels, and the four bytes of a logit take three shifts
    band = 16 + 7
    first = (4 + 7) + 4 * (2 * band + 9 * 16 + 7 + 3 * band)
    assert {name: passes[name] for name in ROLES} | {"first_layer": passes["first_layer"]} == {
        "first_layer": first,
        "tile": 4 * (9 * 16 + 7) + (1 + 7),
        "reset": 4 * band + 2 * (1 + 7),
        "bias": 4 * band + 2 * (1 + 7),
        "shortcut": 4 * band,
        "pool": 256 + 7,
        "shift": 4 * band + 4 * (2 + 7),
        "clamp": 8 * band,
        "copy": 0,
    }
    counts = report.counts()
    # 64 pixels, nine tiles twice, and the classes; two biases and a shortcut, the pool, and the
    # biases of pool and classes
    assert counts["gemm_weights_uops"] == 2 * 9 * 64 + 1
    assert counts["gemm_helpers_uops"] == 3 * 64 + 4 * 64 + 2
    assert counts["gemm_uops"] == counts["gemm_weights_uops"] + counts["gemm_helpers_uops"]


def alu_micro_ops(program: Program) -> dict[AluOp, int]:
    counts: Counter[AluOp] = Counter()
    for insn in decode(program.spec, program.insn):
        if isinstance(insn, AluInsn):
            uops = (insn.uop_end - insn.uop_bgn) * insn.iter_out * insn.iter_in
            counts[AluOp(insn.alu_opcode)] += uops
    return dict(counts)


def test_a_block_that_is_always_zero_is_neither_computed_nor_read() -> None:
    maker = GraphMaker((16, 8, 8))
    first = maker.conv("input", 48)
    maker.nodes[-1].weight[16:32] = 0  # type: ignore[union-attr]
    maker.nodes[-1].bias[16:32] = -500  # type: ignore[union-attr]
    maker.conv(first, 16, residual=None)
    program = assert_exact(maker.graph())
    # two output blocks of nine tiles and a bias; nine tiles on each of them, and a bias
    assert gemm_micro_ops(program) == (2 * 10 + 18 + 1) * 64
    assert alu_micro_ops(program) == dict.fromkeys((AluOp.SHR, AluOp.MAX, AluOp.MIN), 3 * 64)


@pytest.mark.parametrize("shift", [3, 9])  # before and after the rescale's shift
def test_constant_shortcut_on_a_constant_block(shift: int) -> None:
    maker = GraphMaker((16, 8, 8))
    first = maker.conv("input", 32)
    maker.nodes[-1].weight[16:] = 0  # type: ignore[union-attr]
    second = maker.conv(first, 32, residual=first, residual_shift=shift)
    maker.nodes[-1].weight[16:] = 0  # type: ignore[union-attr]
    maker.conv(second, 10, 1, relu=False, bits=32)
    assert_exact(maker.graph())


def test_clips_that_a_block_cannot_reach_are_left_out_for_it() -> None:
    maker = GraphMaker((16, 8, 8))
    first = maker.conv(maker.relu("input"), 48, 1, bias=0)
    weight, bias = maker.nodes[-1].weight, maker.nodes[-1].bias  # type: ignore[union-attr]
    weight[16:32] = 1  # at most 16 * 127 + 256 >> 9 = 4, at least 0: no clip
    weight[32:] = 0  # the constant 900 + 256 >> 9 = 2: no step at all
    bias[32:] = 900
    maker.conv(first, 16, 1, relu=False, bits=32)
    program = assert_exact(maker.graph())
    counts = alu_micro_ops(program)
    # the input's ReLU has one MAX; the first convolution shifts two blocks and clips one; the
    # logits' four bytes take three shifts
    assert counts == {AluOp.MAX: 64 + 64, AluOp.MIN: 64, AluOp.SHR: 2 * 64 + 3 * 64}


def test_fully_pruned_layer_has_no_product() -> None:
    maker = GraphMaker((32, 8, 8))
    maker.conv("input", 32, keep=0.0, bias=0, relu=False, rescale=Rescale(0, False, -128, 127))
    assert gemm_micro_ops(assert_exact(maker.graph())) == 0


def test_channels_that_nobody_reads_are_not_computed() -> None:
    maker = GraphMaker((16, 8, 8))
    first = maker.conv("input", 48, bias=0, relu=False, rescale=Rescale(9, False, -128, 127))
    second = maker.conv(first, 16, bias=0, relu=False, rescale=Rescale(9, False, -128, 127))
    maker.nodes[-1].weight[:, 16:32] = 0  # type: ignore[union-attr]
    program = assert_exact(maker.graph())
    assert program.region(f"{first}.weight").shape[0] == 2 * 9
    assert program.region(f"{second}.weight").shape[0] == 2 * 9


def test_layer_that_nobody_reads_costs_nothing() -> None:
    maker = GraphMaker((16, 8, 8))
    x = maker.conv("input", 16)
    dead = maker.conv(x, 16)
    maker.conv(dead, 16, keep=0.0, residual=x, residual_shift=9)
    program = assert_exact(maker.graph())
    layer = next(layer for layer in program.layers if layer.name == dead)
    assert layer.begin == layer.end
    assert dead not in {region.name for region in program.regions}
    timing = load_target("vta", VtaConfig).timing
    timed = {layer.name: layer.cycles for layer in time_program(program, timing).layers}
    assert timed.get(dead, 0) == 0


def test_a_loop_that_runs_once_has_no_step() -> None:
    """A step that nobody takes could exceed its field: that of a whole image, for example."""
    insns = decode(DEFAULT, compile_graph(residual_network(), DEFAULT).insn)
    computing = [insn for insn in insns if isinstance(insn, GemmInsn | AluInsn)]
    outer = [insn for insn in computing if insn.iter_out == 1]
    inner = [insn for insn in computing if insn.iter_in == 1]
    assert len(computing) > len(outer) > len(inner) > 0
    assert {(insn.dst_factor_out, insn.src_factor_out) for insn in outer} == {(0, 0)}
    assert {(insn.dst_factor_in, insn.src_factor_in) for insn in inner} == {(0, 0)}


def test_accumulators_rest_four_micro_ops() -> None:
    maker = GraphMaker((48, 7, 7))
    x = maker.conv("input", 16)
    maker.conv(maker.avg_pool(maker.conv(x, 40, keep=0.4), 7), 10, 1, relu=False, bits=32)
    program = assert_exact(maker.graph())
    assert program.min_gemm_distance == 4
    assert check(program).min_gemm_distance == 4


def test_layers_cover_the_program_in_order() -> None:
    program = compile_graph(residual_network(), DEFAULT)
    ends = [0, *(layer.end for layer in program.layers)]
    assert [layer.begin for layer in program.layers] == ends[:-1]
    assert ends[-1] == program.length
    assert len({layer.name for layer in program.layers}) == len(program.layers)


def test_regions_are_aligned_and_apart() -> None:
    program = compile_graph(residual_network(), DEFAULT)
    regions = sorted(program.regions, key=lambda region: region.offset)
    assert all(region.offset % 4096 == 0 for region in regions)
    ends = [region.offset + region.length for region in regions]
    assert all(end <= after.offset for end, after in zip(ends, regions[1:], strict=False))
    assert ends[-1] <= len(program.dram)


def test_geometry_that_holds_no_tile_is_refused() -> None:
    maker = GraphMaker((16, 8, 8))
    maker.conv("input", 16, 5)
    with pytest.raises(UnsupportedError, match=r"conv1.*LOG_INP_BUFF_SIZE"):
        compile_graph(maker.graph(), vta_spec(log_inp_buff_size=8))


def test_padding_beyond_the_kernel_is_refused() -> None:
    maker = GraphMaker((16, 8, 8))
    maker.conv("input", 16, 1, padding=1)
    with pytest.raises(UnsupportedError, match="padding"):
        compile_graph(maker.graph(), DEFAULT)


def test_wide_result_inside_the_network_is_refused() -> None:
    maker = GraphMaker((16, 8, 8))
    maker.relu(maker.conv("input", 16, bits=32))
    with pytest.raises(UnsupportedError, match="conv1: 32 bits"):
        compile_graph(maker.graph(), DEFAULT)


def test_the_tile_search_charges_what_the_timing_says() -> None:
    de10 = load_target("vta", VtaConfig).timing
    assert unit_costs(DEFAULT, de10) == UnitCosts(23, 23, 22, 8, 7, 1, 7, 1, 2, 3.375)
    wide = replace(de10, bus_bits=256)  # an element of inputs or outputs a beat
    assert unit_costs(DEFAULT, wide) == UnitCosts(22, 23, 22, 32, 7, 1, 7, 1, 2, 0.5 + 4 / 32)
    old = load_target("vta_old_rtl", VtaConfig).timing
    assert unit_costs(DEFAULT, old) == UnitCosts(23, 23, 22, 8, 7, 4, 7, 5, 6, 3.375)
    # 32 bytes: two rows of two beats and a pause each, and a fourth of what 128 bytes cost
    assert unit_costs(TWO_ROWS, de10).store == 2 * (2 + 1) + 3 / 4


def test_a_wider_bus_gets_tiles_of_its_own() -> None:
    maker = GraphMaker((64, 16, 16))
    maker.conv(maker.conv("input", 128, keep=0.5), 64, bits=32, relu=False)
    graph, de10 = maker.graph(), load_target("vta", VtaConfig).timing
    wide = replace(de10, bus_bits=256)
    narrow_tiles, own = (Vta(DEFAULT, t).compile(graph).program for t in (de10, wide))
    assert own.insn != narrow_tiles.insn
    assert time_program(own, wide).cycles < time_program(narrow_tiles, wide).cycles
    x = np.random.default_rng(7).integers(-128, 128, (2, 64, 16, 16)).astype(np.int8)
    np.testing.assert_array_equal(simulate(own, x).logits, run(graph, x))


def test_keys_tell_the_versions_of_the_tile_search_apart() -> None:
    de10 = load_target("vta", VtaConfig).timing
    same = [de10, replace(de10, clock_mhz=200.0, queue_entries=16)]
    others = [load_target("vta_pynq", VtaConfig).timing, replace(de10, bus_bits=128)]
    assert all("tile_search" not in Vta(DEFAULT, timing).identity() for timing in same)
    assert [Vta(DEFAULT, timing).identity()["tile_search"] for timing in others] == [2, 2]
