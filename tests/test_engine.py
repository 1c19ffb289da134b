"""The analytic engine model: numbers worked out by hand, and what must hold for any layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.graph.integer import IntConcat, IntSelect
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.memory import traffics
from gpw_cli.targets.engine.product import direct, image, join_rows, products, weight_bytes
from gpw_cli.targets.engine.timing import LayerTime, layer_time
from gpw_cli.targets.engine.work import ConvWork, PassWork, Pool, tiles, works_of
from tests.integer_graphs import GraphMaker
from tests.small_targets import engine

SMALL = engine(weight_cycles=8, add_rate=1, pool_rate=1, post_rate=1)


def work(
    outs: int,
    ins: int,
    size: int,
    kernel: int = 3,
    stride: int = 1,
    nonzero: np.ndarray | None = None,
    image: bool = False,
) -> ConvWork:
    """A convolution with "same" padding."""
    out = -(-size // stride)
    shape = (outs, ins, kernel, kernel)
    there = np.ones(shape, np.bool_) if nonzero is None else nonzero
    return ConvWork(
        "conv",
        (ins, size, size),
        (outs, out, out),
        1,
        there,
        (stride, stride),
        image,
        adds=False,
        pool=None,
    )


def test_a_layer_of_nvdla_by_hand() -> None:
    # 2 x 2 tiles at 9 positions, 64 pixels each
    layer = layer_time(work(16, 16, 8), replace(SMALL, skips_zero_tiles=False, dram_latency=64))
    assert layer.busy == {"mac": 36 * 64, "dram": 552, "post": 1024, "pool": 0}
    # weights 16*16*9 and 16 biases of 4 bytes, input and output 16*8*8, over 8 bytes a cycle
    assert layer.bytes == {"weights": 2368, "inputs": 1024, "outputs": 1024}
    # three lines of 128 bytes and the 8 first kernels (1152 + 32 bytes) come before the products
    assert (layer.wait, layer.edges) == (64, (384 + 1184) // 8)
    assert layer.cycles == 64 + 196 + 2304
    assert layer.split == {"mac": 2304, "dram": 196, "post": 0, "pool": 0, "stall": 64}
    hidden = replace(SMALL, skips_zero_tiles=False, overlaps_layers=True)
    assert layer_time(work(16, 16, 8), hidden).cycles == 2304


def test_skipped_tiles_cost_neither_cycles_nor_bytes() -> None:
    nonzero = np.zeros((16, 16, 3, 3), np.bool_)
    nonzero[3, 5, 1, 1] = nonzero[0, 12, 0, 2] = nonzero[8:, :8, 2, 2] = True  # 3 tiles of 36
    product = direct(work(16, 16, 8, nonzero=nonzero), SMALL)
    assert (product.cycles, product.bound, product.tiles) == (3 * 64, 3 * 64, 3)
    # 64 bytes a tile, 18 tags in 3 bytes and 8 biases a row
    assert product.row_bytes.tolist() == [2 * 64 + 3 + 32, 64 + 3 + 32]
    stock = direct(work(16, 16, 8, nonzero=nonzero), replace(SMALL, skips_zero_tiles=False))
    assert (stock.cycles, stock.tiles) == (36 * 64, 36)
    assert stock.row_bytes.tolist() == [8 * 144 + 32] * 2


def test_compressed_weights_save_bytes_only() -> None:
    nonzero = np.zeros((16, 16, 3, 3), np.bool_)
    nonzero[:8, :2] = True
    cfg = replace(SMALL, skips_zero_tiles=False, weight_compression=True)
    # 144 values, a bit for each of 8*144 weights, 4 bytes of sizes, 8 biases
    assert weight_bytes(nonzero, cfg).tolist() == [144 + 144 + 4 + 32, 144 + 4 + 32]
    assert direct(work(16, 16, 8, nonzero=nonzero), cfg).cycles == 36 * 64


def test_a_fully_connected_layer_waits_for_its_weights() -> None:
    layer = work(10, 64, 1, kernel=1)  # 2 x 8 tiles, one position, 8 cycles for each tile's weights
    assert direct(layer, SMALL).cycles == 16 * 8
    assert direct(layer, SMALL).bound == 16
    assert direct(layer, replace(SMALL, batch=16)).cycles == 16  # 16 images fill the 8 cycles


def test_ragged_channels_fill_tiles() -> None:
    product = direct(work(10, 12, 4, kernel=1), replace(SMALL, weight_cycles=0))
    assert product.cycles == 2 * 2 * 16
    assert product.row_bytes.tolist() == [8 * 12 + 1 + 32, 2 * 12 + 1 + 8]


def test_virtual_neurons_share_a_pass_per_input() -> None:
    cfg = engine(
        atomic_k=8,
        atomic_c=16,
        virtual_neurons=True,
        input_width=16,
        weight_cycles=8,
        weight_overlap=False,
        shared_buffer=1 << 16,
    )
    assert cfg.tile == (1, 16)
    nonzero = np.ones((10, 16, 1, 1), np.bool_)
    layer = work(10, 16, 2, kernel=1, nonzero=nonzero)
    assert direct(layer, cfg).cycles == 2 * (4 + 8)  # 10 neurons on 8 places, weights then 4 pixels
    nonzero[4] = nonzero[7] = False
    assert direct(layer, cfg).cycles == 4 + 8
    assert direct(layer, replace(cfg, input_width=4)).cycles == 4 * 4 + 8
    assert direct(layer, cfg).bound == 4


def test_arrays_take_rows_then_pixels() -> None:
    cfg = replace(SMALL, arrays=4, weight_cycles=0)
    assert direct(work(40, 8, 3, kernel=1), cfg).cycles == 2 * 9  # 5 rows on 4 arrays
    assert direct(work(16, 8, 3, kernel=1), cfg).cycles == 5  # two arrays a row: 5 and 4 pixels
    assert direct(work(16, 8, 3, kernel=1), cfg).bound == -(-2 * 9 // 4)


def test_image_mode_packs_columns_and_rows() -> None:
    # 3 columns of 3 channels are 9 values; four rows of them fit in 64, so 3x3 takes one pass
    assert join_rows(np.ones((8, 3, 3, 3), np.bool_), 1, 64).shape == (8, 36, 1, 1)
    assert join_rows(np.ones((8, 3, 3, 3), np.bool_), 1, 8).shape == (8, 9, 3, 1)
    cfg = replace(SMALL, atomic_c=64, image_mode=True)
    product = image(work(8, 3, 32, image=True), cfg)
    assert (product.cycles, product.bound) == (32 * 32, 32 * 32)
    # a line of 20 outputs is a stripe of 16 and one of 4, which waits 8 cycles for weights
    assert image(work(8, 3, 20, image=True), cfg).cycles == 20 * (16 + 8)


def test_winograd_multiplies_four_times_for_nine() -> None:
    cfg = replace(SMALL, winograd=True, skips_zero_tiles=False)
    plain, fast = products(work(16, 16, 8), cfg)
    assert (plain.cycles, fast.cycles) == (36 * 64, 16 * 64)
    assert fast.row_bytes.tolist() == [-(-(8 * 144 + 32) * 16 // 9)] * 2
    assert len(products(work(16, 16, 8, stride=2), cfg)) == 1
    holes = np.zeros((16, 16, 3, 3), np.bool_)
    holes[:, :, 1, 1] = True  # one position of nine: nothing to skip after the transform
    plain, fast = products(work(16, 16, 8, nonzero=holes), replace(cfg, skips_zero_tiles=True))
    assert (plain.cycles, fast.cycles) == (4 * 64, 16 * 64)


def test_a_small_buffer_moves_input_or_weights_again() -> None:
    layer = work(32, 16, 16)  # 4 rows of 8*144 + 32 = 1184 bytes, 16 lines of 256 bytes
    cfg = replace(SMALL, skips_zero_tiles=False, shared_buffer=4096)
    stays, slides = traffics(layer, direct(layer, cfg).row_bytes, cfg)
    # 4096 - 3 lines of 256 hold 2 of the 4 rows: the input comes twice
    assert (stays.weights, stays.inputs) == (4 * 1184, 2 * 4096)
    # 4096 - 1184 bytes hold 11 lines: bands of 9 and 7 outputs, with 11 and 9 lines
    assert (slides.weights, slides.inputs) == (2 * 4 * 1184, (11 + 9) * 256)


def test_three_buffers_by_halves() -> None:
    cfg = engine(
        shared_buffer=0,
        input_buffer=4096,
        weight_buffer=4736,
        output_buffer=8192,
        skips_zero_tiles=False,
    )
    layer = work(32, 16, 16)  # 2368 bytes hold two rows of weights, 2048 bytes 8 lines of input
    ways = [(way.weights, way.inputs) for way in traffics(layer, direct(layer, cfg).row_bytes, cfg)]
    # rows one by one: 4 lines a tile (6 with the border, 1536 bytes) for 64 of 128 places
    assert ways[0] == (4736, 4 * 4 * 1536)
    assert ways[1] == (4 * 4736, 4 * 1536)
    with pytest.raises(UnsupportedError, match="output_buffer"):
        list(traffics(layer, direct(layer, cfg).row_bytes, replace(cfg, output_buffer=32)))


def test_works_of_a_network() -> None:
    maker = GraphMaker((3, 8, 8))
    first = maker.conv("input", 16)
    pooled = maker.max_pool(first)
    second = maker.conv(pooled, 16, residual=pooled)
    padded = maker.pad(second, 2, 8, 8)
    maker.add(padded, maker.conv(second, 32, stride=2))
    kinds = [(w.name, type(w)) for w in works_of(maker.graph(), SMALL)]
    assert kinds == [
        (first, ConvWork),
        (second, ConvWork),
        (padded, PassWork),
        ("conv5", ConvWork),
        ("add6", PassWork),
    ]
    works = works_of(maker.graph(), SMALL)
    assert isinstance(works[0], ConvWork)
    assert isinstance(works[1], ConvWork)
    assert works[0].pool == Pool(16 * 64, (16, 4, 4))
    assert works[0].stored == (16, 4, 4)
    assert (works[0].image, works[1].image, works[1].adds) == (True, False, True)
    apart = works_of(maker.graph(), replace(SMALL, add_rate=0, pool_rate=0))
    assert [w.name for w in apart] == [
        first,
        pooled,
        second,
        f"{second}+add",
        padded,
        "conv5",
        "add6",
    ]
    # two tensors of 32*2*2 bytes in, one out
    assert layer_time(apart[-1], SMALL).cycles == 3 * 128 // 8


def test_moves_are_passes_over_what_they_read() -> None:
    maker = GraphMaker((8, 4, 4))
    parts = (maker.conv("input", 8), maker.conv("input", 16))
    maker.nodes.append(IntConcat("both", parts, (24, 4, 4)))
    maker.nodes.append(IntSelect("few", "both", np.arange(4), (4, 4, 4)))
    both, few = works_of(maker.graph(), SMALL)[-2:]
    assert layer_time(both, SMALL).bytes == {"weights": 0, "inputs": 24 * 16, "outputs": 24 * 16}
    assert layer_time(few, SMALL).bytes == {"weights": 0, "inputs": 4 * 16, "outputs": 4 * 16}


def test_settings_out_of_range() -> None:
    with pytest.raises(UsageError, match=r"target\.atomic_k=0"):
        engine(atomic_k=0, shared_buffer=1)
    with pytest.raises(UsageError, match="shared_buffer"):
        engine(shared_buffer=0)
    with pytest.raises(UsageError, match="shared_buffer"):
        engine(shared_buffer=1, input_buffer=1)


@st.composite
def engines(draw: st.DrawFn) -> EngineConfig:
    """Any engine: one buffer or three, fixed arrays or virtual neurons."""
    shared = draw(st.booleans())
    size = draw(st.sampled_from((2048, 16384, 1 << 20)))
    return engine(
        atomic_k=draw(st.sampled_from((4, 8, 16))),
        atomic_c=draw(st.sampled_from((4, 8, 32))),
        arrays=draw(st.sampled_from((1, 3, 16))),
        virtual_neurons=draw(st.booleans()),
        input_width=draw(st.sampled_from((0, 4))),
        weight_cycles=draw(st.sampled_from((0, 8))),
        weight_overlap=draw(st.booleans()),
        image_mode=draw(st.booleans()),
        winograd=draw(st.booleans()),
        memory_atom=draw(st.sampled_from((1, 8))),
        dram_bytes=draw(st.sampled_from((0.5, 8.0, 64.0))),
        dram_latency=draw(st.sampled_from((0, 100))),
        shared_buffer=size if shared else 0,
        input_buffer=0 if shared else size,
        weight_buffer=0 if shared else size,
        output_buffer=0 if shared else 16384,
        overlaps_layers=draw(st.booleans()),
        post_rate=draw(st.sampled_from((0.0, 2.0))),
        batch=draw(st.sampled_from((1, 4))),
    )


@st.composite
def layers(draw: st.DrawFn) -> ConvWork:
    """Ragged channels, some weights zero."""
    outs, ins = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    kernel = draw(st.sampled_from((1, 3)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    there = rng.random((outs, ins, kernel, kernel)) < draw(st.sampled_from((0.02, 0.3, 1.0)))
    size, stride = draw(st.integers(1, 20)), draw(st.sampled_from((1, 2)))
    return work(outs, ins, size, kernel, stride, there, draw(st.booleans()))


def sums_up(time: LayerTime) -> bool:
    return sum(time.split.values()) == time.cycles and min(time.split.values()) >= 0


@given(engines(), layers())
def test_no_layer_is_faster_than_its_bound(cfg: EngineConfig, layer: ConvWork) -> None:
    for either in (cfg, replace(cfg, skips_zero_tiles=False)):
        time = layer_time(layer, either)
        assert time.cycles >= max(time.bound.values())
        assert all(time.busy[unit] >= time.bound[unit] for unit in time.busy)
        assert sums_up(time)


@given(engines(), layers(), st.integers(0, 99), st.sampled_from((0.1, 0.5, 0.9)))
def test_fewer_tiles_are_never_slower(
    cfg: EngineConfig, layer: ConvWork, seed: int, keep: float
) -> None:
    there = tiles(layer.nonzero, cfg.tile)
    kept = np.random.default_rng(seed).random(there.shape) < keep
    mask = kept.repeat(cfg.tile[0], 0).repeat(cfg.tile[1], 1)
    sparser = replace(layer, nonzero=layer.nonzero & mask[: layer.out[0], : layer.source[0]])
    assert layer_time(sparser, cfg).cycles <= layer_time(layer, cfg).cycles
    stock = replace(cfg, skips_zero_tiles=False)
    assert layer_time(sparser, stock).cycles == layer_time(layer, stock).cycles


@given(engines(), layers())
def test_more_bandwidth_is_never_slower(cfg: EngineConfig, layer: ConvWork) -> None:
    faster = replace(cfg, dram_bytes=2 * cfg.dram_bytes)
    assert layer_time(layer, faster).cycles <= layer_time(layer, cfg).cycles


@given(engines(), layers())
def test_multiplications_fit_the_multipliers(cfg: EngineConfig, layer: ConvWork) -> None:
    product = direct(layer, replace(cfg, batch=1))
    assert product.cycles * cfg.multipliers >= int(layer.nonzero.sum()) * layer.pixels
    assert product.row_bytes.sum() >= layer.nonzero.any((1, 2, 3)).sum()
