"""The engine model at its boundaries: buffers exactly full, odd sizes, windows that are no squares.

Expected numbers are worked out by hand; the sums stand in the tests.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest

from gpw_cli.errors import UsageError
from gpw_cli.targets.engine.compiled import CompiledEngine
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.memory import activation_bytes, least_input, line_bytes, traffics
from gpw_cli.targets.engine.product import (
    direct,
    image,
    join_rows,
    products,
    weight_bytes,
    winograd,
)
from gpw_cli.targets.engine.timing import layer_time
from gpw_cli.targets.engine.work import ConvWork, PassWork, Pool, works_of
from tests.integer_graphs import GraphMaker
from tests.small_targets import engine

PLAIN = engine(skips_zero_tiles=False)  # 8 x 8, 8 bytes a cycle
Shape = tuple[int, int, int]
Pair = tuple[int, int]


def conv(
    source: Shape, out: Shape, kernel: Pair, stride: Pair = (1, 1), *, taken: Pool | None = None
) -> ConvWork:
    nonzero = np.ones((out[0], source[0], *kernel), np.bool_)
    return ConvWork("conv", source, out, 1, nonzero, stride, image=False, adds=False, pool=taken)


# 24 channels in 3 rows of 8 * 4 * 3 * 2 weights and 8 biases: 224 bytes each, 672 together.
# 10 lines of 6 pixels of 4 bytes: 24 bytes a line. A tile reads 2 n + 1 lines, m + 1 columns.
FLAT = conv((4, 10, 6), (24, 4, 5), (3, 2), (2, 1))


def test_a_pool_slower_than_the_array_ends_in_a_part_of_a_cycle() -> None:
    layer = conv((3, 5, 7), (6, 5, 7), (1, 1), taken=Pool(210, (6, 2, 3)))
    time = layer_time(layer, replace(PLAIN, pool_rate=0.8, post_rate=4))
    # 18 weights and 6 biases of 4 bytes, 105 in, 36 out: 183 bytes; 210 / 0.8 = 262.5
    assert time.bytes == {"weights": 42, "inputs": 105, "outputs": 36}
    assert time.busy == {"mac": 35, "dram": 23, "post": 53, "pool": 263}
    assert time.bound == time.busy
    # the first line (21 bytes) and the weights (42) take 8 cycles
    assert (time.cycles, time.edges, time.limit) == (8 + 263, 8, "pool")
    assert time.split == {"mac": 35, "dram": 8, "post": 0, "pool": 263 - 35, "stall": 0}


def test_a_rate_of_zero_is_no_limit() -> None:
    layer = conv((3, 5, 7), (6, 5, 7), (1, 1))
    # 42 + 105 + 210 bytes, of which 63 come first: 294 / 8 = 36.75
    assert layer_time(layer, PLAIN).cycles == 8 + 37
    assert layer_time(layer, PLAIN).limit == "dram"
    slow = layer_time(layer, replace(PLAIN, post_rate=4))
    assert (slow.cycles, slow.limit) == (8 + 53, "post")
    adds = replace(layer, adds=True)
    # another 210 bytes of the second operand: 504 / 8 = 63; 210 / 16 = 13.1
    time = layer_time(adds, replace(PLAIN, post_rate=1, add_rate=16))
    assert (time.cycles, time.busy["post"], time.bytes["inputs"]) == (8 + 63, 14, 105 + 210)


@pytest.mark.parametrize(
    ("layer", "atom", "size"),
    [
        # 4 windows of 3 lines overlap in 9; 5 columns with 3 between them that nobody reads
        (conv((8, 9, 20), (8, 4, 5), (3, 1), (2, 4)), 1, 9 * 5 * 8),
        (conv((2, 10, 11), (4, 4, 4), (1, 5), (3, 2)), 1, 4 * 11 * 2),
        # padding: the windows reach over the edge
        (conv((3, 4, 6), (4, 4, 6), (3, 5)), 1, 4 * 6 * 3),
        (conv((3, 4, 6), (4, 4, 6), (3, 5)), 8, 4 * 6 * 8),
    ],
)
def test_the_least_input_is_what_windows_cover(layer: ConvWork, atom: int, size: int) -> None:
    assert least_input(layer, replace(PLAIN, memory_atom=atom)) == size


@pytest.mark.parametrize(
    ("size", "weights_stay", "input_stays", "first"),
    [
        # beside 3 lines (72 bytes): exactly two rows of weights, or one
        (520, (672, 2 * 240), (672, 240), 296),
        (519, (672, 3 * 240), (672, 240), 296),
        # beside one row of weights: exactly 10 lines, or 9, of which the last outputs need 9
        (464, (672, 3 * 240), (672, 10 * 24), 296),
        (463, (672, 3 * 240), (672, 9 * 24), 296),
        # 8 lines: 3 outputs from 7 lines, then one from 3
        (416, (672, 3 * 240), (2 * 672, (7 + 3) * 24), 296),
        # half the buffer, 150 bytes, for the input: 6 lines, 2 outputs from 5
        (300, (672, 3 * 240), (2 * 672, (5 + 5) * 24), 296),
        # less than a kernel: 4 outputs one by one, and a window of half the buffer
        (100, (672, 3 * 240), (4 * 672, 4 * 3 * 24), 50 + 224),
        (20, (672, 3 * 240), (4 * 672, 4 * 3 * 24), 10 + 224),
    ],
)
def test_a_shared_buffer_exactly_full(
    size: int, weights_stay: Pair, input_stays: Pair, first: int
) -> None:
    cfg = replace(PLAIN, shared_buffer=size)
    ways = list(traffics(FLAT, direct(FLAT, cfg).row_bytes, cfg))
    assert [(way.weights, way.inputs) for way in ways] == [weights_stay, input_stays]
    assert [(way.first, way.last, way.outputs) for way in ways] == [(first, 0, 480)] * 2


def test_of_two_ways_of_the_same_time_the_one_with_fewer_bytes() -> None:
    time = layer_time(FLAT, replace(PLAIN, shared_buffer=519))
    # 3 rows, 6 positions, 20 pixels; 296 bytes come first
    assert time.cycles == 3 * 6 * 20 + 296 // 8
    assert time.bytes == {"weights": 672, "inputs": 240, "outputs": 480}


THREE = engine(
    shared_buffer=0,
    input_buffer=2 * 9 * 6 * 4,  # all 4 x 5 outputs, from 9 x 6 pixels
    weight_buffer=2 * 224,  # one row
    output_buffer=2 * 20 * 8 * 4,  # all outputs of 8 channels
    skips_zero_tiles=False,
)
# weights, inputs, first, last; in turn one row of weights, two, and all three
DEEP = [(672, 3 * 216, 440 // 2, 160), (672, 3 * 216, 440 // 4, 160)]  # channels in 2 and 4 parts
WIDE = [
    (2 * 672, 2 * 240, (120 + 448) // 2, 160),  # 10 places: 2 lines from 5, twice
    (2 * 672, 2 * 240, (120 + 448) // 4, 160),
    (4 * 672, 4 * 72, (72 + 672) // 4, 120),  # 6 places: one line from 3
]


def ways_of(layer: ConvWork, cfg: EngineConfig) -> list[tuple[int, int, int, int]]:
    found = traffics(layer, direct(layer, cfg).row_bytes, cfg)
    return [(way.weights, way.inputs, way.first, way.last) for way in found]


def test_three_buffers_exactly_full() -> None:
    whole = (672, 216, 216 + 224, 8 * 20)
    assert ways_of(FLAT, THREE) == [whole, whole, *DEEP, *WIDE]


def test_an_input_buffer_that_lacks_a_byte_takes_half_the_lines() -> None:
    cfg = replace(THREE, input_buffer=THREE.input_buffer - 2)
    halves = [(672, 3 * 240, 120 + 224, 80), (2 * 672, 240, 120 + 224, 80)]
    assert ways_of(FLAT, cfg) == [*halves, *DEEP, *WIDE]


def test_a_weight_buffer_that_lacks_a_byte_takes_half_the_channels() -> None:
    cfg = replace(THREE, weight_buffer=THREE.weight_buffer - 2)
    assert ways_of(FLAT, cfg) == [*DEEP, WIDE[1], WIDE[2]]


def test_an_output_buffer_of_three_places_cuts_a_line_of_five() -> None:
    cfg = replace(THREE, output_buffer=2 * 3 * 8 * 4)
    # 3 outputs from 4 columns and 2 from 3, one line from 3: 8 tiles of 48 and 36 bytes
    moved = 4 * 3 * (4 + 3) * 4
    assert ways_of(FLAT, cfg)[:2] == [
        (672, 3 * moved, 48 + 224, 24),
        (8 * 672, moved, 48 + 224, 24),
    ]


def test_an_odd_number_of_lines_is_cut_into_three_and_two() -> None:
    layer = replace(conv((4, 5, 4), (8, 5, 4), (1, 1)), out_bytes=4)
    cfg = replace(THREE, output_buffer=2 * 12 * 8 * 4)
    assert ways_of(layer, cfg) == [  # 8 * 4 weights and 8 biases; 12 of 20 outputs, 4 bytes each
        (64, 80, 48 + 64, 8 * 12 * 4),
        (64, 80, 48 + 64, 8 * 12 * 4),
        (2 * 64, 80, (48 + 64) // 2, 8 * 12 * 4),
        (2 * 64, 80, (48 + 64) // 4, 8 * 12 * 4),
    ]


def test_tensors_in_dram_are_padded() -> None:
    cfg = replace(PLAIN, memory_atom=16)
    assert activation_bytes((17, 3, 5), cfg) == 32 * 15
    assert activation_bytes((16, 3, 5), cfg, 4) == 16 * 15 * 4
    assert activation_bytes((1, 3, 5), replace(cfg, value_bytes=2)) == 16 * 15 * 2
    first = replace(conv((3, 4, 6), (4, 4, 6), (3, 3)), image=True)
    assert line_bytes(first, cfg) == 16 * 6
    assert line_bytes(first, replace(cfg, image_mode=True, value_bytes=2)) == 3 * 6 * 2
    assert line_bytes(replace(first, image=False), replace(cfg, image_mode=True)) == 16 * 6


def test_a_batch_shares_weights_and_rounds_up() -> None:
    layer = conv((5, 1, 1), (3, 1, 1), (1, 1))
    cfg = replace(PLAIN, batch=4, weight_cycles=5)
    product = direct(layer, cfg)
    # 15 weights and 3 biases, 27 bytes, for 4 images; 4 images in 5 cycles
    assert (product.row_bytes.tolist(), product.cycles, product.bound) == ([7], 2, 1)
    two = direct(conv((5, 1, 2), (3, 1, 2), (1, 1)), cfg)  # two positions: no batch
    assert (two.row_bytes.tolist(), two.cycles, two.bound) == ([27], 5, 2)


@pytest.mark.parametrize(
    ("atomic_c", "stride", "wide", "joined"),
    [(60, 2, 5, 4), (59, 2, 5, 2), (30, 2, 5, 2), (29, 2, 5, 1), (24, 4, 1, 2), (23, 4, 1, 1)],
)
def test_image_mode_joins_rows_that_just_fit(
    atomic_c: int, stride: int, wide: int, joined: int
) -> None:
    there = np.random.default_rng(0).random((2, 3, 5, wide)) < 0.5
    packed = join_rows(there, stride, atomic_c)
    assert packed.shape == (2, joined * wide * 3, -(-5 // joined), 1)
    for (o, i, row, col), value in np.ndenumerate(there):
        assert packed[o, (row % joined * wide + col) * 3 + i, row // joined, 0] == value
    assert packed.sum() == there.sum()


def test_stripes_of_the_image() -> None:
    """Of 16 outputs where atomic_c is four times atomic_k, else of 2 * atomic_k = 8."""
    layer = replace(conv((3, 5, 42), (4, 3, 40), (3, 3)), image=True)
    cfg = replace(PLAIN, image_mode=True, atomic_k=4, atomic_c=16, weight_cycles=9)
    # 3 kernel rows, 3 lines; two stripes of 16 and one of 8, which waits for weights
    found = image(layer, cfg)
    assert (found.cycles, found.bound, found.tiles) == (3 * 3 * (32 + 9), 3 * 3 * 40, 3)
    assert image(layer, replace(cfg, weight_cycles=7)).cycles == 3 * 3 * (32 + 8)
    assert image(layer, replace(cfg, atomic_c=12)).cycles == 3 * 3 * 40
    assert [p.cycles for p in products(layer, cfg)] == [found.cycles]


def test_winograd_covers_odd_outputs_with_tiles_of_two() -> None:
    cfg = replace(PLAIN, winograd=True)
    product = winograd(conv((8, 7, 5), (8, 7, 5), (3, 3)), cfg)
    assert product.cycles == product.bound == 4 * (4 * 4 * 3)
    assert product.row_bytes.tolist() == [1081]  # (8 * 8 * 9 + 8 * 4) * 16 / 9 = 1080.9
    for kernel, stride, ways in (((3, 3), (1, 1), 2), ((3, 3), (1, 2), 1), ((3, 1), (1, 1), 1)):
        assert len(products(conv((8, 7, 5), (8, 7, 5), kernel, stride), cfg)) == ways


def test_arrays_share_rows_and_then_pixels() -> None:
    layer = conv((8, 1, 9), (16, 1, 9), (1, 1))  # two rows of tiles, 9 pixels
    for arrays, cycles, bound in ((1, 18, 18), (2, 9, 9), (3, 9, 6), (4, 5, 5), (5, 5, 4)):
        product = direct(layer, replace(PLAIN, arrays=arrays))
        assert (product.cycles, product.bound) == (cycles, bound)
    uneven = conv((24, 1, 9), (24, 1, 9), (1, 1))
    nonzero = uneven.nonzero.copy()
    nonzero[:8, 8:] = nonzero[16:, :16] = False  # 1, 3 and 1 tiles; array 0 has rows 0 and 2
    product = direct(
        replace(uneven, nonzero=nonzero), replace(PLAIN, arrays=2, skips_zero_tiles=True)
    )
    assert (product.cycles, product.bound, product.tiles) == (3 * 9, 23, 5)  # 5 * 9 / 2 = 22.5


def test_narrow_inputs_and_arrays_of_virtual_neurons() -> None:
    cfg = replace(PLAIN, atomic_c=16, virtual_neurons=True, input_width=5, arrays=2)
    product = direct(conv((16, 1, 9), (10, 1, 9), (1, 1)), cfg)
    # 10 neurons on 8 places; 5 of 9 pixels an array, each in 4 beats of 5, 5, 5 and 1 values
    assert (product.cycles, product.tiles) == (2 * 5 * 4, 10)
    assert product.bound == 23  # 10 * 9 * 4 / (8 * 2) = 22.5
    fixed = replace(cfg, virtual_neurons=False, arrays=1, weight_cycles=40, weight_overlap=False)
    assert direct(conv((16, 1, 9), (10, 1, 9), (1, 1)), fixed).cycles == 2 * (9 * 4 + 40)


def test_bytes_of_weights_round_up_to_whole_bytes() -> None:
    nonzero = np.ones((3, 5, 3, 3), np.bool_)
    nonzero[:, :, 0, 0] = False
    skips = replace(PLAIN, skips_zero_tiles=True, value_bytes=2)
    # 8 positions of 3 * 5 weights of 2 bytes, 9 tags in 2 bytes, 3 biases
    assert weight_bytes(nonzero, skips).tolist() == [8 * 15 * 2 + 2 + 12]
    packs = replace(PLAIN, weight_compression=True, value_bytes=2)
    # 120 weights, 135 bits in 17 bytes, the group's 4 bytes, 3 biases
    assert weight_bytes(nonzero, packs).tolist() == [240 + 17 + 4 + 12]
    assert weight_bytes(nonzero, replace(PLAIN, value_bytes=2)).tolist() == [270 + 12]


def test_a_pool_is_taken_only_from_its_single_reader() -> None:
    maker = GraphMaker((3, 6, 5))
    first = maker.conv("input", 4)
    maker.max_pool(first, 2, 2, 0)
    alone = works_of(maker.graph(), replace(PLAIN, pool_rate=1))
    assert [type(work) for work in alone] == [ConvWork]
    maker.conv(first, 4, bits=32)
    both = works_of(maker.graph(), replace(PLAIN, pool_rate=1))
    assert [type(work) for work in both] == [ConvWork, PassWork, ConvWork]
    assert [work.out_bytes for work in both] == [1, 1, 4]
    assert both[1].out == (4, 3, 2)
    # 4 * 6 * 5 bytes in and 4 * 3 * 2 out at 7 bytes a cycle, after the latency
    narrow = replace(PLAIN, dram_bytes=7, dram_latency=100)
    time = layer_time(both[1], narrow)
    assert (time.cycles, time.split["stall"]) == (100 + 21, 100)  # 144 / 7 = 20.6
    assert layer_time(both[1], replace(narrow, overlaps_layers=True)).cycles == 21


def test_passes_read_what_they_need() -> None:
    maker = GraphMaker((3, 7, 5))
    first = maker.conv("input", 4, residual=None)
    second = maker.conv(first, 4, residual=first)
    maker.pad(second, 2, 1, 2)
    works = works_of(maker.graph(), PLAIN)
    assert [work.name for work in works] == [first, second, f"{second}+add", "pad3"]
    reads = [work.reads for work in works if isinstance(work, PassWork)]
    # the sum reads both operands; the shortcut every other pixel of every other line
    assert reads == [((4, 7, 5), (4, 7, 5)), ((4, 4, 3),)]
    assert works[-1].out == (7, 4, 3)


def test_a_network_is_the_sum_of_its_layers() -> None:
    pool = PassWork("pool", (24, 4, 5), (24, 2, 2), 1, ((24, 4, 5),))
    network = CompiledEngine([FLAT, pool], replace(PLAIN, dram_latency=10))
    found = network.time()
    # 360 passes after 296 bytes; 480 + 96 bytes
    assert [layer.cycles for layer in found.layers] == [10 + 37 + 360, 10 + 72]
    assert found.cycles == 407 + 82
    weights, outputs = 672, 480 + 24 * 4
    assert found.dram_bytes == {"weights": weights, "inputs": 240 + 480, "outputs": outputs}
    # of the 10 x 6 pixels, windows cover 9 x 6: (672 + 216 + 480) / 8 = 171, then 72
    assert found.bound == {"mac": 360, "dram": 171 + 72, "post": 0, "pool": 0}
    assert (found.units["mac"].count, found.units["dram"].count) == (18, 672 + 720 + 576)
    assert network.facts == {
        "layers_on_mac": 1,
        "layers_on_dram": 1,
    }


@pytest.mark.parametrize(
    ("setting", "least"),
    [("atomic_k", 1), ("memory_atom", 1), ("batch", 1), ("weight_cycles", 0), ("post_rate", 0)],
)
def test_settings_at_the_ends_of_their_range(setting: str, least: int) -> None:
    for value in (least, 10**12):
        assert getattr(replace(PLAIN, **{setting: value}), setting) == value
    for value in (least - 1, 10**12 + 1):
        with pytest.raises(UsageError, match=f"target.{setting}={value}"):
            replace(PLAIN, **{setting: value})


def test_buffers_are_one_or_three_and_rates_are_above_zero() -> None:
    for wrong in (
        {"input_buffer": 1, "weight_buffer": 1, "output_buffer": 1},
        {"output_buffer": 1},
        {"shared_buffer": 0},
        {"shared_buffer": 0, "input_buffer": 1, "weight_buffer": 1},
    ):
        with pytest.raises(UsageError, match="either the one or all three"):
            replace(PLAIN, **wrong)
    for name in ("clock_mhz", "dram_bytes"):
        assert getattr(replace(PLAIN, **{name: 1e-9}), name) == 1e-9
        with pytest.raises(UsageError, match="must be above 0"):
            replace(PLAIN, **{name: 0})
    assert replace(PLAIN, arrays=3, atomic_k=4, atomic_c=5).multipliers == prod((3, 4, 5))
