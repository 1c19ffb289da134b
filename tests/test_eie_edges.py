"""EIE at its boundaries: SRAMs exactly full, long runs, odd sizes, windows that are no squares.

Expected numbers are worked out by hand; the sums stand in the tests.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from gpw_cli.errors import ProgramError, UnsupportedError, UsageError
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
    IntUpsample,
    Rescale,
)
from gpw_cli.quantization.reference import run
from gpw_cli.targets.eie.compiled import CompiledEie
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.csc import decode, encode
from gpw_cli.targets.eie.fixed import fraction_for, safe_shift, shifted
from gpw_cli.targets.eie.functional import Simulator
from gpw_cli.targets.eie.host import compute
from gpw_cli.targets.eie.layers import BENCHMARK, RandomLayer, time_random
from gpw_cli.targets.eie.matrix import blocks_of, require_reach
from gpw_cli.targets.eie.memory import pack, unpack
from gpw_cli.targets.eie.network import compile_network
from gpw_cli.targets.eie.queues import ColumnEntries, Queues, run_queues
from gpw_cli.targets.eie.reference import run_reference
from gpw_cli.targets.eie.timing import Counts, time_network, time_pass
from tests.integer_graphs import GraphMaker
from tests.small_targets import eie

PLAIN = Rescale(0, False, *FULL_RANGE)


def full(*sizes: int) -> IntGraph:
    """Linear layers from ``sizes[0]`` inputs on, all weights 7."""
    maker = GraphMaker((sizes[0], 1, 1))
    source = "input"
    for outputs in sizes[1:]:
        source = maker.conv(source, outputs, 1, relu=False, bits=32)
    for node in maker.nodes[1:]:
        assert isinstance(node, IntConv)
        node.weight[...] = 7
    return maker.graph()


@pytest.mark.parametrize(
    ("inputs", "outputs", "weights", "pointers"),
    [
        (32, 32, 1024, 66),  # an entry is a byte; a line has 8; a pointer more than columns
        (32, 33, 1056, 66),
        (511, 1, 512, 1024),  # 511 entries fill 64 lines
        (512, 1, 512, 1026),
    ],
)
def test_srams_of_one_kib_exactly_full(
    inputs: int, outputs: int, weights: int, pointers: int
) -> None:
    config = eie(pes=1, registers=1024, weight_kib=1, pointer_kib=1)
    found = CompiledEie(compile_network(full(inputs, outputs), config))
    assert found.network.sram_kib == (weights / 1024, pointers / 1024)
    fits = max(weights, pointers) <= 1024
    assert found.network.fits == fits
    stored = inputs * outputs * 8 + (inputs + 1) * 16 + 16 * 16  # entries, pointers, codebook
    assert found.network.storage.bits == stored == found.facts["stored_bits"]
    assert found.network.storage.compression == 32 * inputs * outputs / stored
    activations = (inputs + outputs) * 2
    assert found.time().dram_bytes == {
        "activations": activations,
        "weights": 0 if fits else stored // 8,
    }


def test_the_fullest_pe_is_that_of_all_layers() -> None:
    config = eie(pes=2, sram_bits=16)  # two entries a line
    network = compile_network(full(4, 3, 1), config)
    # PE 0 has two rows of 4 and one of 3 weights: 4 and 2 lines of 2 bytes; 5 and 4 pointers
    assert network.sram_kib == ((4 + 2) * 2 / 1024, (5 + 4) * 2 / 1024)
    assert [layer.lines.tolist() for layer in network.layers.values()] == [[4, 2], [2, 0]]
    assert network.storage.weights == 4 * 3 + 3
    assert network.storage.pointer_bits == 2 * (5 + 4) * 16
    assert network.storage.codebook_bits == 2 * 16 * 16
    assert CompiledEie(network).time().entry_lines == 4 + 2 + 2


def test_time_is_that_of_one_image_of_noise_within_127() -> None:
    found = CompiledEie(compile_network(full(4096, 1), eie()))
    noise = np.random.default_rng(0).integers(-127, 128, (1, 4096, 1, 1)).astype(np.int8)
    assert found.time().accesses == found.time_on(noise).accesses
    assert found.time().accesses.broadcasts == np.count_nonzero(noise) < 4096


# Windows: kernel, stride and padding of rows and of columns, all different.
WINDOWS = [((3, 2), (2, 1), (0, 1)), ((1, 4), (1, 3), (1, 0)), ((2, 3), (3, 2), (2, 1))]


def size_of(size: tuple[int, int], window: Any) -> tuple[int, int]:
    kernel, stride, padding = window
    high, wide = (
        (n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )
    return high, wide


def seen(x: np.ndarray, window: Any, at: tuple[int, int], fill: int = 0) -> np.ndarray:
    """[C, KH, KW] of ``x`` [C, H, W], element by element."""
    kernel, stride, padding = window
    found = np.full((len(x), *kernel), fill, np.int64)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            row = at[0] * stride[0] + i - padding[0]
            col = at[1] * stride[1] + j - padding[1]
            if 0 <= row < x.shape[1] and 0 <= col < x.shape[2]:
                found[:, i, j] = x[:, row, col]
    return found


@pytest.mark.parametrize("window", WINDOWS)
def test_a_convolution_in_pythons_integers(window: Any) -> None:
    kernel, stride, padding = window
    shape = (5, *size_of((7, 6), window))
    rng = np.random.default_rng(4)
    weight = (rng.integers(-9, 10, (5, 3, *kernel)) * 10).astype(np.int8)
    bias = rng.integers(-99, 99, 5).astype(np.int32)
    conv = IntConv("conv", "input", weight, bias, stride, padding, None, 0, False, PLAIN, 32, shape)
    graph = IntGraph((IntInput("input", (3, 7, 6), 1.0), conv), "conv", {}, (0.0,), (1.0,))
    network = compile_network(graph, eie(pes=4, registers=4))
    images = rng.integers(-3, 4, (2, 3, 7, 6)).astype(np.int8)
    got = Simulator(network).run(images).reshape(2, *shape)
    layer = network.layers["conv"]
    codes = np.block([[decode(block) for block in row] for row in layer.blocks])
    values = layer.values[codes].astype(np.int64)
    half = 1 << layer.shift >> 1
    sent = 0
    for image, row, col in np.ndindex(2, *shape[1:]):
        vector = seen(images[image].astype(np.int64) * 256, window, (row, col)).ravel()
        total = layer.bias + (values * vector + half >> layer.shift).sum(axis=1)
        assert got[image, :, row, col].tolist() == total.tolist()
        sent += int(np.count_nonzero(vector))
    assert np.array_equal(run_reference(network, images), got.reshape(2, -1))
    found = time_network(network, Simulator(network).tensors(images))["conv"]
    assert (found.broadcasts, found.vectors) == (sent, 2 * shape[1] * shape[2])


def test_a_convolution_in_two_passes_by_hand() -> None:
    """Two PEs of two registers: four outputs, then one; windows of two rows, every other column."""
    config = eie(pes=2, registers=2, act_sram_bits=16, pipeline_cycles=7)
    weight = np.full((5, 1, 2, 1), 7, np.int8)
    conv = IntConv("conv", "input", weight, np.zeros(5, np.int32), (1, 2), (0, 0), None, 0, False,
                   PLAIN, 32, (5, 2, 2))  # fmt: skip
    graph = IntGraph((IntInput("input", (1, 3, 4), 1.0), conv), "conv", {}, (0.0,), (1.0,))
    x = np.array([[[1, 9, 2, 9], [3, 9, 0, 9], [4, 9, 5, 9]]], np.int8)
    found = CompiledEie(compile_network(graph, config)).time_on(np.stack([x, x]))
    # vectors (1, 3), (2, 0), (3, 4), (0, 5). A column has two entries a PE in the first pass: two
    # of them end in cycle 4, one in cycle 2. In the second it takes a cycle: they end in 2 and 1.
    queues = (5 + 3 + 5 + 3) + (3 + 2 + 3 + 2)
    # two outputs a PE are loaded and stored, and one input loaded; then one output
    moves = 4 * (2 + 2 + 1) + 4 * (1 + 1 + 1)
    assert found.accesses == Counts(
        vectors=8,
        queues=queues,
        moves=moves,
        pipeline=8 * 7,
        entries=6 * 4 + 6 * 1,
        padding=0,
        broadcasts=2 * 6,
        full=0,
        scans=0,
        lines=4 * 2 + 4 * 1,  # of both PEs, then of one
        act_lines=2 * moves,
        least=(4 + 2 + 4 + 2) + (2 + 1 + 2 + 1) + moves + 8 * 7,
    )
    assert found.cycles == 26 + 32 + 56
    assert found.layers[0].split == {"queues": 26, "moves": 32, "pipeline": 56}
    assert (found.theoretical_cycles, found.bound) == (30 // 2, {"theory": 106})
    assert found.units["pe"].utilisation == 30 / (114 * 2)


def test_a_matrix_of_odd_sizes_by_hand() -> None:
    """9 rows on 2 PEs: five and four; 3 columns, 4 activations a line."""
    config = eie(pes=2, registers=8)
    blocks = blocks_of(np.full((9, 3), 1, np.uint8), config)
    active = np.ones((3, 1), np.bool_)
    found = time_pass(blocks[0], active, config, moved=True)
    # three columns of 5 entries; biases and results of 5 outputs in two lines, 2 inputs in one
    assert (found.queues, found.moves, found.pipeline) == (1 + 15, 2 + 2 + 1, 7)
    assert (found.entries, found.act_lines, found.least) == (27, 2 * 5, 15 + 5 + 7)
    # PE 0 reads entries 0 to 14 in two lines of 8, PE 1 0 to 11
    assert found.lines == 2 + 2
    stays = time_pass(blocks[0], active, config, moved=False)
    assert (stays.moves, stays.cycles) == (2, 16 + 2 + 7)
    few = eie(pes=2, registers=1)  # a register holds one activation: the source is a batch
    batches = blocks_of(np.full((2, 5), 1, np.uint8), few)
    found = time_pass(batches[0], np.ones((5, 1), np.bool_), few, moved=True)
    # columns of one entry: five cycles and a reload of one before the third and the fifth
    assert (found.queues, found.scans, found.moves) == (1 + 5 + 2, 2, 1 + 1 + 1)
    assert found.act_lines == 2 * (3 + 2)


def queues(counts: list[list[int]], active: list[int], config: EieConfig, reload: int) -> Queues:
    work = np.array(counts, np.int64)
    columns = np.array(active, np.bool_)[:, None]
    return run_queues(ColumnEntries(work, np.cumsum(work, axis=1) - work), columns, config, reload)


RAGGED = [[3, 1, 2, 0, 2]]  # entries 0-2, 3, 4-5, none, 6-7: in lines of two, 0-1, 1, 2, 3


@pytest.mark.parametrize(
    ("counts", "active", "config", "reload", "expected"),
    [
        # starts in 1, 4, 6, 8 and 10; each is sent when the one before it has started
        (RAGGED, [1, 1, 1, 1, 1], {"queue_depth": 2}, 0, (12, 5, 5, 0, 4)),
        # starts in 1, 4, 6 and 8; the detector looks at column 2 in vain
        (RAGGED, [1, 1, 0, 1, 1], {"queue_depth": 2}, 0, (10, 4, 3, 1, 3)),
        # columns 0 and 1 in vain, then sent in 2
        (RAGGED, [0, 0, 1, 0, 0], {"queue_depth": 2}, 0, (5, 1, 0, 2, 1)),
        # registers of two columns, filled again in 3 cycles before columns 2 and 4
        ([[1] * 5], [1] * 5, {"registers": 2}, 3, (12, 5, 0, 6, 3)),
        # two fillings and four columns in vain
        ([[1] * 5], [0, 0, 0, 0, 1], {"registers": 2}, 3, (12, 1, 0, 10, 1)),
        # two PEs without a queue: the second is sent in 3, when both have finished
        ([[2, 1], [1, 3]], [1, 1], {"pes": 2, "queue_depth": 1}, 0, (7, 2, 2, 0, 4)),
    ],
)
def test_cycles_by_hand(
    counts: list[list[int]],
    active: list[int],
    config: dict[str, Any],
    reload: int,
    expected: tuple[int, ...],
) -> None:
    found = queues(counts, active, replace(eie(pes=1, sram_bits=16), **config), reload)
    numbers = (found.cycles, found.broadcasts, found.full, found.scans, found.lines)
    assert tuple(int(number[0]) for number in numbers) == expected


@pytest.mark.parametrize(
    ("zeros", "codes", "runs"),
    [
        (15, [5], [15]),
        (16, [0, 5], [15, 0]),
        (31, [0, 5], [15, 15]),
        (32, [0, 0, 5], [15, 15, 0]),
    ],
)
def test_runs_at_the_ends_of_four_bits(zeros: int, codes: list[int], runs: list[int]) -> None:
    column = np.array([[0] * zeros + [5]], np.uint8).T
    packed = encode(column, pes=1, index_bits=4)
    assert (packed.codes.tolist(), packed.runs.tolist()) == (codes, runs)
    assert packed.padding == len(codes) - 1
    assert np.array_equal(decode(packed), column)
    with pytest.raises(ProgramError, match=f"row {zeros + 1} of a matrix of {zeros + 1} rows"):
        decode(replace(packed, runs=packed.runs + np.eye(len(runs), dtype=np.uint8)[-1]))


def test_pointers_to_the_last_entry_of_the_last_line() -> None:
    config = eie(pes=1)
    packed = encode(np.ones((8, 2), np.uint8), 1, 4)  # two full lines
    (image,) = pack(packed, config)
    assert np.array_equal(decode(unpack([image], 8, config)), np.ones((8, 2)))
    # 13 bits of the line, 3 of the entry: one entry too far, and a first column that starts late
    for even in ([0, 2 << 3 | 1], [1, 2 << 3]):
        with pytest.raises(ProgramError, match="from 0 to at most 16"):
            unpack([replace(image, even=np.array(even, np.uint16))], 8, config)


def test_a_pointer_reaches_65535_lines() -> None:
    config = eie(pes=1, sram_bits=8, registers=65536)
    assert (config.entries_per_line, config.slot_bits, config.max_entries) == (1, 0, 65535)
    most = np.ones((65535, 1), np.uint8)
    require_reach("layer", most > 0, config)
    assert len(pack(encode(most, 1, 4), config)[0].weights) == 65535
    more = np.ones((65536, 1), np.uint8)
    with pytest.raises(UnsupportedError, match="layer: a PE would hold 65,536 weights"):
        require_reach("layer", more > 0, config)
    with pytest.raises(UnsupportedError, match="65,536 entries"):
        pack(encode(more, 1, 4), config)


@pytest.mark.parametrize(
    ("setting", "low", "high"),
    [
        ("pes", 1, 4096),
        ("queue_depth", 1, 4096),
        ("code_bits", 1, 8),
        ("index_bits", 1, 8),
        ("sram_bits", 8, 1024),
        ("registers", 1, 65536),
        ("act_sram_bits", 16, 1024),
        ("weight_kib", 1, 1 << 20),
        ("pointer_kib", 1, 1 << 20),
        ("act_kib", 1, 1 << 20),
        ("pipeline_cycles", 0, 1000),
        ("clock_mhz", 0.001, 1e6),
        ("timed_images", 1, 1000),
        ("checked_images", 1, 100000),
    ],
)
def test_settings_at_the_ends_of_their_range(setting: str, low: float, high: float) -> None:
    def of(value: Any) -> EieConfig:
        return replace(eie(), **{setting: value})

    assert [getattr(of(value), setting) for value in (low, high)] == [low, high]
    for value in (low - 1, high + 1):
        with pytest.raises(UsageError, match=rf"target\.{setting}="):
            of(value)


def test_the_published_eie() -> None:
    """64 PEs, queues of 8, 4-bit weights and runs, 128 + 32 + 2 KiB of SRAM, 800 MHz."""
    numbers = asdict(eie())
    table = numbers.pop("energy")
    assert [value for value in numbers.values() if not isinstance(value, str)] == [
        *(64, 8, 4, 4, 64, 64, 64, 128, 32, 2, 7, 800.0, 1, 2),
    ]
    assert [value for value in table.values() if not isinstance(value, str)] == [
        *(0.1, 3.1, 1.0, 5.0, 640.0),
    ]
    assert (eie().vector, eie().entries_per_line, eie().slot_bits) == (4096, 8, 3)


def test_fractions_and_shifts_at_the_ends_of_16_bits() -> None:
    assert [fraction_for(v) for v in (32767.0, 16383.5, 16383.6, 32767.5)] == [0, 1, 0, -1]
    assert [int(shifted(np.int64(v), -1)) for v in (3, -3, 2)] == [2, -1, 1]  # type: ignore[arg-type]
    assert int(shifted(np.int64(-3), 0)) == -3  # type: ignore[arg-type]
    one = np.ones(1)
    # at a shift of 15: the weight, a rounding, the bias and one more are 32767, or 32768
    assert safe_shift(np.array([[32764]]), one, 15, False) == 15
    assert safe_shift(np.array([[32765]]), one, 15, False) == 16
    # signs: 20000 and 12764 are one sum where activations have both
    both = np.array([[20000, -12763]])
    assert [safe_shift(both, one, 15, signed) for signed in (False, True)] == [15, 15]
    more = np.array([[20000, -12764]])
    assert [safe_shift(more, one, 15, signed) for signed in (False, True)] == [15, 16]


@pytest.mark.parametrize("window", WINDOWS)
def test_pools_of_any_window(window: Any) -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-(2**15), 2**15, (2, 7, 6)).astype(np.int16)
    kernel, stride, padding = window
    high, wide = size_of((7, 6), window)
    average = IntAvgPool(
        "a", "x", kernel, stride, padding, Rescale(2, True, -100, 90), (2, high, wide)
    )
    got = compute(average, {"x": x[..., None]})[..., 0]
    after = (1, 2)
    larger = size_of((7 + 1, 6 + 2), window)  # rows below and columns to the right
    largest = compute(
        IntMaxPool("m", "x", kernel, stride, padding, (2, *larger), after), {"x": x[..., None]}
    )
    for row, col in np.ndindex(high, wide):
        total = seen(x, window, (row, col)).sum(axis=(1, 2))
        # a quarter, halves up; what rounds to -100 and 90
        expected = np.floor(total / 4 + 0.5).clip(-100 * 256 - 128, 90 * 256 + 127)
        assert got[:, row, col].tolist() == expected.tolist()
    assert largest.shape == (2, *larger, 1)
    for row, col in np.ndindex(*larger):
        peak = seen(x, window, (row, col), -(2**15)).max(axis=(1, 2))
        assert largest[:, row, col, 0].tolist() == peak.tolist()


def test_what_the_host_adds_and_moves() -> None:
    rng = np.random.default_rng(6)
    a, b = (rng.integers(-(2**13), 2**13, (2, 4, 6, 1)).astype(np.int16) for _ in range(2))
    shape = (2, 4, 6)
    rescale = Rescale(3, True, -50, 60)

    def of(node: IntNode) -> np.ndarray:
        return compute(node, {"a": a, "b": b})

    wide = 2 * a.astype(np.int64) + 4 * b
    low, high = -50 * 256 - 128, 60 * 256 + 127
    for relu, exact in ((False, wide), (True, wide.clip(0))):
        expected = ((exact + 4) >> 3).clip(low, high)
        assert np.array_equal(of(IntAdd("s", "a", "b", 1, 2, relu, rescale, shape)), expected)
    positive = (a.astype(np.int64).clip(0) + 4) >> 3
    assert np.array_equal(of(IntRelu("r", "a", rescale, shape)), positive.clip(low, high))
    joined = of(IntConcat("c", ("b", "a"), (4, 4, 6)))
    assert np.array_equal(joined, np.concatenate([b, a]))
    assert np.array_equal(of(IntSelect("k", "a", np.array([1]), (1, 4, 6))), a[[1]])
    grown = of(IntUpsample("u", "a", (2, 3), (2, 8, 18)))
    assert all(grown[c, y, x, 0] == a[c, y // 2, x // 3, 0] for c, y, x in np.ndindex(2, 8, 18))
    padded = of(IntPad("p", "a", (2, 3), 1, 2, (5, 2, 2)))
    assert np.array_equal(padded[1:3], a[:, ::2, ::3])
    assert padded.shape == (5, 2, 2, 1)
    assert not padded[[0, 3, 4]].any()


def test_every_tensor_is_near_that_of_the_integer_graph() -> None:
    """256 shared values are all there are; what is left is rounding."""
    maker = GraphMaker((2, 9, 8), seed=2)
    weak = Rescale(8, True, -128, 127)
    first = maker.conv("input", 6, (3, 2), padding=1, rescale=weak)
    left = maker.conv(first, 6, relu=False, rescale=Rescale(10, True, -128, 127))
    right = maker.conv(first, 6, rescale=Rescale(11, True, -128, 127), residual=left,
                       residual_shift=9)  # fmt: skip
    maker.add(left, right, 1, 0, relu=False)
    maker.conv("add4", 6, 1, relu=False, rescale=Rescale(9, True, -128, 127), residual=right,
               residual_shift=np.arange(6, dtype=np.int32) + 4)  # fmt: skip
    graph = maker.graph()
    x = np.random.default_rng(1).integers(-127, 128, (33, 2, 9, 8)).astype(np.int8)
    network = compile_network(graph, eie(pes=4, code_bits=8))
    tensors = Simulator(network).tensors(x)
    for number, node in enumerate(graph.nodes[1:], 2):
        part = IntGraph(graph.nodes[:number], node.name, graph.scales, (0.0,), (1.0,))
        expected = run(part, x).reshape(33, *node.shape)
        got = np.moveaxis(tensors[node.name], -1, 0) / 256
        assert np.abs(got - expected).max() <= 2.5
        assert expected.std() > 5
    logits = Simulator(network).run(x)  # 32 images, then one
    assert np.array_equal(logits, np.moveaxis(tensors[graph.output], -1, 0).reshape(33, -1))
    assert np.array_equal(logits[-1:], Simulator(network).run(x[-1:]))


def test_the_first_images_are_checked_and_no_others() -> None:
    found = CompiledEie(compile_network(full(4, 3), eie(pes=2, checked_images=2)))
    x = np.ones((1, 4, 1, 1), np.int8)
    simulate = found.simulator()
    simulate(x)
    found.network.layers["conv1"].blocks[0][0].codes[:] = 0  # the reference does not read them ...
    late = found.simulator()
    with pytest.raises(ProgramError, match="dense 16-bit reference"):
        late(x)
    unchecked = CompiledEie(replace(found.network, config=eie(pes=2, checked_images=1)))
    simulate = unchecked.simulator()
    with pytest.raises(ProgramError, match="dense 16-bit reference"):
        simulate(np.concatenate([x, x]))
    assert simulate(x).shape == (1, 3)  # ... and the second image is not compared


def test_means_are_rounded_and_an_empty_run_has_no_balance() -> None:
    total = Counts(vectors=2, queues=7, moves=4, pipeline=14, entries=9, least=5)
    assert total.over(2) == Counts(
        vectors=1, queues=4, moves=2, pipeline=7, entries=4, least=2
    )  # 3.5, 4.5 and 2.5: halves to even
    assert (total.cycles, (total + total).cycles) == (25, 50)
    assert (total.balance(2), Counts().balance(2)) == (9 / 50, 0.0)
    assert total.theoretical(2) == 4.5


def test_random_layers_in_one_pass_and_in_two() -> None:
    layer = RandomLayer(np.ones((5, 2), np.uint8), np.ones((2, 1), np.bool_))
    # three entries a column and PE: 1 + 6 cycles, and 7 of the pipeline
    assert time_random(layer, eie(pes=2)).cycles == 7 + 7
    # four rows, then one: 5 and 3 cycles; results and inputs move, 2 + 1 and 1 + 1; no biases
    small = eie(pes=2, registers=2, act_sram_bits=16)
    found = time_random(layer, small)
    assert (found.queues, found.moves, found.pipeline) == (5 + 3, 3 + 2, 14)


def test_the_benchmark_s_densities_and_times() -> None:
    """Weights and activations in per cent; theoretical and actual microseconds."""
    expected = {
        "Alex-6": (9, 35.1, 28.1, 30.3),
        "Alex-7": (9, 35.3, 11.7, 12.2),
        "Alex-8": (25, 37.5, 8.9, 9.9),
        "VGG-6": (4, 18.3, 28.1, 34.4),
        "VGG-7": (4, 37.5, 7.9, 8.7),
        "VGG-8": (23, 41.1, 7.3, 8.4),
        "NT-We": (10, 100, 5.2, 8.0),
        "NT-Wd": (11, 100, 13.0, 13.9),
        "NT-LSTM": (10, 100, 6.5, 7.5),
    }
    assert [bench.name for bench in BENCHMARK] == list(expected)
    for bench in BENCHMARK:
        weights, activations, *times = expected[bench.name]
        assert bench.weights == pytest.approx(weights / 100)
        assert bench.activations == pytest.approx(activations / 100)
        assert [bench.theoretical_us, bench.actual_us] == times
    assert [bench.inputs for bench in BENCHMARK] == [
        *(9216, 4096, 4096, 25088, 4096, 4096, 4096, 600, 1201),
    ]
    assert [bench.outputs for bench in BENCHMARK] == [
        *(4096, 4096, 1000, 4096, 4096, 1000, 600, 8791, 2400),
    ]
