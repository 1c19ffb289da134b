"""EIE through the command line: its own arithmetic, cycles that depend on the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Gpw, Ran
from integer_graphs import GraphMaker

from gpw_cli.config.compose import compose
from gpw_cli.targets.base import DataDependent, Exports, Simulates, Traces
from gpw_cli.targets.eie.compiled import CompiledEie
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.target import eie_of
from gpw_cli.targets.registry import npu_of
from tests.small_targets import eie

OneLine = Callable[[Ran], str]
FINE = ("run", *TINY, "target=eie", "scheme=fine", "sparsity=0.9")


def test_digits_pruned_finely_run_end_to_end(gpw: Gpw, tmp_path: Path, one_line: OneLine) -> None:
    ran = gpw(*FINE, "--json")
    assert ran.code == 0, ran.err
    metrics = ran.json["simulate"]["metrics"]
    assert metrics["accuracy_of"] == "own arithmetic"
    assert metrics["n_test"] == 359
    assert abs(metrics["test_accuracy"] - ran.json["fuse"]["metrics"]["test_accuracy"]) < 15
    assert metrics["clock_mhz"] == 800
    assert metrics["theoretical_cycles"] <= metrics["bound_cycles"] <= metrics["cycles"]
    assert metrics["weight_lines_read"] > metrics["weight_lines_stored"]
    assert metrics["not_run_by_eie"] == "1 average pooling: on the host, not timed"
    assert metrics["convolutions"].startswith("4, one matrix-vector product an output pixel")
    timing = json.loads(next(tmp_path.glob(".gpw/store/simulate/*/timing.json")).read_text())
    assert sum(layer["cycles"] for layer in timing["layers"]) == timing["cycles"]
    assert timing["picojoules"]["DRAM"] == (16 * 16 + 10) * 16 / 32 * 640
    refused = one_line(gpw("simulate", *FINE[1:], "--trace", "trace.json"))
    assert refused.startswith("gpw: --trace: target eie ")


def test_the_settings_are_the_families_own(gpw: Gpw, one_line: OneLine) -> None:
    assert npu_of(compose(["target=eie"]).target).tile == (64, 1)
    assert npu_of(compose(["target=eie_256"]).target).tile == (256, 1)
    assert "target.queue_depth=0" in one_line(gpw(*FINE, "target.queue_depth=0"))
    assert "did you mean 'target.queue_depth'" in one_line(gpw(*FINE, "target.queue_deph=4"))


def compiled(config: EieConfig) -> CompiledEie:
    maker = GraphMaker((8, 6, 6), seed=1)
    maker.conv(maker.conv("input", 20, 3, keep=0.5, tile=1), 4, 6, padding=0, relu=False, bits=32)
    return eie_of(config).compile(maker.graph())


def test_what_a_compiled_network_offers() -> None:
    found = compiled(eie(pes=4))
    assert isinstance(found, Simulates)
    assert isinstance(found, DataDependent)
    assert not isinstance(found, Exports | Traces)
    assert not found.bit_exact


def test_cycles_and_energy_depend_on_the_images_and_are_means() -> None:
    found = compiled(eie(pes=4))
    rng = np.random.default_rng(0)
    noise = rng.integers(-127, 128, (2, 8, 6, 6)).astype(np.int8)
    sparse = noise * (rng.random(noise.shape) < 0.2)
    both, first, second = (found.time_on(x) for x in (noise, noise[:1], noise[1:]))
    assert abs(both.cycles - (first.cycles + second.cycles) / 2) <= 6  # parts rounded on their own
    assert found.time_on(sparse.astype(np.int8)).cycles < both.cycles
    assert found.time().cycles == found.time().cycles
    assert both.picojoules["weight SRAM"] == both.accesses.lines * 10
    assert both.dram_bytes == {"activations": (8 * 36 + 4) * 2, "weights": 0}


def test_weights_that_do_not_fit_come_from_dram() -> None:
    found = compiled(eie(pes=1, weight_kib=1, registers=4096))
    assert found.network.sram_kib[0] > 1
    assert found.time().dram_bytes["weights"] == -(-found.network.storage.bits // 8)
    assert "read from DRAM, not timed" in str(found.facts["fullest_pe"])


# One PE, whose 16-bit pointers reach the layers of 262,144 and 524,288 weights only when pruned.
LARGE = (
    "data=digits",
    "model=mlp",
    "target=eie",
    "target.pes=1",
    "target.registers=1024",
    "scheme=fine",
    "pruning.include_first=true",
)


def test_a_matrix_that_is_too_large_dense_runs_pruned(gpw: Gpw, one_line: OneLine) -> None:
    ran = gpw("cycles", *LARGE, "sparsity=0.92", "--json")
    assert ran.code == 0, ran.err
    found = ran.json
    assert (found["dense"], found["speedup"]) == (None, None)
    assert found["dense_refused"].startswith("1: a PE would hold 257,547 weights")  # int8, not 0
    assert [layer["cycles"] for layer in found["layers"]] == [0, 0, 0]
    assert sum(layer["pruned_cycles"] for layer in found["layers"]) == found["pruned"]["cycles"]
    refused = one_line(gpw("cycles", *LARGE, "sparsity=0.5"))
    assert "prune more" in refused


def test_such_a_network_goes_through_the_pipeline(gpw: Gpw, one_line: OneLine) -> None:
    epochs = ("pretrain.train.epochs=0", "finetune.train.epochs=0", "simulate.images=2")
    ran = gpw("run", *LARGE, "sparsity=0.92", *epochs, "--json")
    assert ran.code == 0, ran.err
    assert "dense_cycles" not in ran.json["simulate"]["metrics"]
    assert "a PE would hold" in one_line(gpw("run", *LARGE, "sparsity=0.5", *epochs))


def test_a_fault_in_the_simulator_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpw_cli.errors import ProgramError

    found = compiled(eie(pes=4))
    x = np.ones((1, 8, 6, 6), np.int8)
    assert found.simulator()(x).shape == (1, 4)
    layer = next(iter(found.network.layers.values()))
    layer.values[1:] += 1  # the reference and the simulator read the same values ...
    found.simulator()(x)
    layer.blocks[0][0].codes[:] = 1  # ... but not the same entries
    with pytest.raises(ProgramError, match="dense 16-bit reference"):
        found.simulator()(x)
