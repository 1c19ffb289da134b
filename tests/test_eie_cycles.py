"""EIE's queues: cycles of a co-author's simulator, a slow model of single cycles, edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpw_cli.arrays import Bools, Int64
from gpw_cli.targets.eie.csc import encode
from gpw_cli.targets.eie.energy import energy
from gpw_cli.targets.eie.layers import BENCHMARK, random_layer
from gpw_cli.targets.eie.matrix import blocks_of, entries_of
from gpw_cli.targets.eie.queues import ColumnEntries, run_queues
from gpw_cli.targets.eie.timing import Counts, time_pass
from tests.small_targets import eie

# Random layers run through RalphMao/EIE-simulator (commit 7ee0029) with the same entries, pointers
# and activations, and an activation of 1 in a last column, as it adds for the bias. It ends a run
# as soon as no PE writes in a cycle, too early where padding leaves all PEs without a write (seen:
# 335 cycles instead of 341, with 5 results written after them); such layers are not listed.
# seed, PEs, rows, columns, weight and activation density, queue, entries a line -> cycles, lines
OUTSIDE = (
    ((0, 4, 64, 256, 0.3, 0.4, 8, 8), 505, 467),
    ((2, 8, 100, 512, 0.25, 0.35, 4, 8), 603, 1081),
    ((3, 16, 400, 320, 0.15, 0.6, 2, 8), 1124, 2334),
    ((4, 16, 128, 640, 0.4, 0.2, 16, 4), 472, 2988),
    ((6, 8, 96, 1024, 0.08, 0.3, 8, 2), 445, 1716),
    ((7, 3, 50, 300, 0.3, 0.7, 5, 8), 1055, 519),
    ((5, 64, 1000, 4096, 0.257, 0.429, 8, 8), 7828, 102493),
)


def random_codes(rng: np.random.Generator, rows: int, columns: int, density: float) -> np.ndarray:
    kept = rng.random((rows, columns)) < density
    return np.where(kept, rng.integers(1, 16, (rows, columns)), 0).astype(np.uint8)


def test_the_benchmark_s_layers_are_those_of_their_networks() -> None:
    """AlexNet's and VGG-16's classifiers; published times have room for padding and rounding."""
    shapes = {bench.name: (bench.inputs, bench.outputs) for bench in BENCHMARK}
    assert shapes["Alex-6"] == (256 * 6 * 6, 4096)
    assert shapes["VGG-6"] == (512 * 7 * 7, 4096)
    assert shapes["Alex-7"] == shapes["VGG-7"] == (4096, 4096)
    assert shapes["Alex-8"] == shapes["VGG-8"] == (4096, 1000)
    assert (shapes["NT-We"], shapes["NT-Wd"]) == ((4096, 600), (600, 8791))
    for bench in BENCHMARK:
        products = bench.inputs * bench.outputs * bench.weights * bench.activations
        assert 0.5 < products / 64 / 800 / bench.theoretical_us < 1.05
        assert bench.theoretical_us < bench.actual_us


def test_a_random_layer_has_the_benchmark_s_densities() -> None:
    bench = BENCHMARK[2]
    layer = random_layer(bench, 0)
    assert layer.codes.shape == (bench.outputs, bench.inputs)
    assert layer.active.shape == (bench.inputs, 1)
    assert np.mean(layer.codes > 0) == pytest.approx(bench.weights, abs=2e-3)
    assert np.mean(layer.active) == pytest.approx(bench.activations, abs=0.03)
    values, counts = np.unique(layer.codes[layer.codes > 0], return_counts=True)
    assert values.tolist() == list(range(1, 16))
    assert counts.max() < 1.05 * counts.min()


@pytest.mark.parametrize(("layer", "cycles", "lines"), OUTSIDE)
def test_cycles_and_lines_of_the_outside_simulator(
    layer: tuple[int, int, int, int, float, float, int, int], cycles: int, lines: int
) -> None:
    seed, pes, rows, columns, weights, activations, depth, line = layer
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, rows, columns + 1, weights)
    active = np.append(rng.random(columns) < activations, True)
    config = eie(pes=pes, queue_depth=depth, sram_bits=8 * line, registers=65536)
    timed = run_queues(entries_of([encode(codes, pes, 4)], config), active[:, None], config)
    assert timed.cycles[0] + config.pipeline_cycles == cycles
    assert timed.lines[0] == lines
    assert timed.broadcasts[0] == active.sum()


def stepped(counts: Int64, active: Bools, depth: int) -> int:
    """One cycle after the other: a detector, a queue and a worker in every PE."""
    pes = len(counts)
    pending = [int(j) for j in np.flatnonzero(active)]
    row, queues, left = 0, [[] for _ in range(pes)], [0] * pes  # type: ignore[var-annotated]
    cycle = 0
    while True:
        ready = all(len(queue) < depth - 1 for queue in queues)
        for pe in range(pes):
            left[pe] = max(left[pe] - 1, 0)
            if left[pe] == 0 and queues[pe]:
                left[pe] = max(int(counts[pe, queues[pe].pop(0)]), 1)
        if pending and pending[0] // pes == row and ready:
            j = pending.pop(0)
            for queue in queues:
                queue.append(j)
            row += j % pes == pes - 1
        elif pending and pending[0] // pes > row:
            row += 1
        if not pending and not any(left) and not any(queues):
            return cycle
        cycle += 1
        assert cycle < 100_000


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 5), st.sampled_from([0.1, 0.5, 1])
)
def test_the_recurrence_is_the_stepped_machine(
    seed: int, pes: int, depth: int, density: float
) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, (pes, 17)).astype(np.int64)
    active = rng.random((17, 3)) < density
    active[16] = True
    config = eie(pes=pes, queue_depth=depth, registers=64)
    starts = np.cumsum(counts, axis=1) - counts
    timed = run_queues(ColumnEntries(counts, starts), active, config)
    assert timed.cycles.tolist() == [stepped(counts, vector, depth) for vector in active.T]


def test_deeper_queues_never_cost_and_depth_one_is_lock_step() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 9, (8, 300)).astype(np.int64)
    active = rng.random((300, 2)) < 0.5
    work = ColumnEntries(counts, np.cumsum(counts, axis=1) - counts)
    times = [
        run_queues(work, active, eie(pes=8, queue_depth=depth)).cycles.tolist()
        for depth in (1, 2, 4, 16, 256)
    ]
    assert times == sorted(times, reverse=True)
    one = np.zeros((3, 1), np.bool_)
    one[1] = True
    alone = run_queues(entries_of([encode(np.ones((4, 3), np.uint8), 2, 4)], eie(pes=2)), one,
                       eie(pes=2, queue_depth=1))  # fmt: skip
    assert (alone.cycles[0], alone.broadcasts[0]) == (3, 1)


def test_a_vector_of_zeros_takes_no_queue_cycles() -> None:
    config = eie(pes=4)
    work = entries_of([encode(np.ones((8, 10), np.uint8), 4, 4)], config)
    timed = run_queues(work, np.zeros((10, 2), np.bool_), config)
    assert timed.cycles.tolist() == [0, 0]
    assert timed.lines.tolist() == [0, 0]


def test_vectors_longer_than_the_register_files_are_loaded_in_batches() -> None:
    """2 PEs of 4 registers: 20 inputs are three batches, 11 outputs two passes."""
    config = eie(pes=2, registers=4, act_sram_bits=16, pipeline_cycles=0, queue_depth=256)
    blocks = blocks_of(np.full((11, 20), 3, np.uint8), config)
    active = np.ones((20, 1), np.bool_)
    first = time_pass(blocks[0], active, config, moved=True, biased=False)
    # 20 columns of 4 entries a PE run without a gap behind the first broadcast; the two reloads of
    # 4 cycles hide behind full queues. Four registers are stored and four loaded.
    assert (first.queues, first.moves, first.cycles) == (1 + 80, 8, 89)
    assert first.entries == 20 * 8
    assert first.act_lines == (8 + 2 * 4) * 2
    second = time_pass(blocks[1], active, config, moved=True, biased=True)
    assert second.moves == 2 + 2 + 4


def test_theory_and_balance_of_the_issues_layer() -> None:
    """4096 -> 1000, 25.7 % of the weights, 42.9 % of the activations, 64 PEs, queues of 8."""
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 1000, 4096, 0.257)
    active = rng.random((4096, 1)) < 0.429
    config = eie()
    found = time_pass(blocks_of(codes, config)[0], active, config, moved=False, biased=False)
    weights = int(np.count_nonzero(codes[:, active[:, 0]]))
    assert found.entries - found.padding == weights
    assert found.theoretical(64) == pytest.approx(weights / 64, rel=1e-3)
    assert (found.cycles, found.broadcasts) == (7673, 1763)
    assert found.balance(64) == pytest.approx(0.92195, abs=1e-5)


def test_energy_is_the_table_times_the_accesses() -> None:
    config = eie()
    assert config.energy.dram32 == 128 * config.energy.sram32
    found = energy(
        Counts(entries=100, padding=20, broadcasts=3, lines=15, act_lines=2), 320, config
    )
    assert found["arithmetic"] == pytest.approx(80 * 3.2)
    assert found["registers"] == 100 + 160 + 3 + 2 * 3 * 64
    assert found["weight SRAM"] == 15 * 10
    assert found["pointer SRAM"] == 2 * 3 * 64 * 2.5
    assert found["activation SRAM"] == 2 * 10
    assert found["DRAM"] == 6400
