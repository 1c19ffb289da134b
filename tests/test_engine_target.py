"""The engines of conf/target through the command line and the registry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from conftest import TINY, Gpw, Ran
from integer_graphs import GraphMaker

from gpw_cli.config.compose import compose
from gpw_cli.config.paths import options
from gpw_cli.config.target import load_target
from gpw_cli.graph.integer import IntConv, IntGraph
from gpw_cli.stages.inputs import npu_identity, pruning_tile
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.registry import npu_of

OneLine = Callable[[Ran], str]
# tile, multipliers, bytes of the buffers, whether skipping is only a thought
ENGINES = {
    "nvdla_small": ((8, 8), 64, 128 << 10, True),
    "nvdla_small_256": ((8, 32), 256, 128 << 10, True),
    "nvdla_medium_512": ((16, 32), 512, 512 << 10, True),
    "nvdla_medium_1024": ((32, 32), 1024, 512 << 10, True),
    "nvdla_large": ((32, 64), 2048, 512 << 10, True),
    "nvdla_full": ((32, 64), 2048, 512 << 10, False),
    "dnnweaver": ((32, 32), 1024, (32 + 1024 + 128) << 10, True),
    "simba": ((8, 8), 1024, (64 + 512 + 48) << 10, True),
    "maeri": ((1, 16), 128, 128 << 10, False),
}


@pytest.mark.parametrize("name", ENGINES)
def test_options_of_conf_target(name: str) -> None:
    cfg = load_target(name, EngineConfig)
    buffers = cfg.shared_buffer + cfg.input_buffer + cfg.weight_buffer + cfg.output_buffer
    assert (cfg.tile, cfg.multipliers, buffers, cfg.claims) == ENGINES[name]
    assert (cfg.family, cfg.name) == ("engine", name)
    config = compose([f"target={name}"])
    assert pruning_tile(config) == npu_of(config.target).tile == cfg.tile


def test_every_engine_is_in_the_table() -> None:
    families = {name: compose([f"target={name}"]).target.family for name in options("target")}
    assert {name for name, family in families.items() if family == "engine"} == set(ENGINES)


def test_identity_is_the_numbers_and_not_the_labels() -> None:
    own = npu_identity(compose(["target=nvdla_small"]))
    labels = ["target.name=other", "target.hypothetical=false"]
    assert npu_identity(compose(["target=nvdla_small", *labels])) == own
    assert npu_identity(compose(["target=nvdla_small", "target.dram_bytes=1"])) != own
    assert own["family"] == "engine"


def network(keep: float) -> IntGraph:
    """Three layers of 64 channels, tiles of 32 x 64 kept with probability ``keep``."""
    maker = GraphMaker((64, 8, 8))
    x = maker.conv("input", 64)
    x = maker.conv(x, 64, residual=x)
    maker.conv(x, 64)
    rng = np.random.default_rng(0)
    nodes = []
    for node in maker.nodes:
        if isinstance(node, IntConv):
            kept = (rng.random((2, 1, 3, 3)) < keep).repeat(32, 0).repeat(64, 1)
            node = IntConv(**{**vars(node), "weight": node.weight * kept.astype(np.int8)})
        nodes.append(node)
    maker.nodes = nodes
    return maker.graph()


def test_units_layers_and_what_is_hypothetical() -> None:
    skipping = npu_of(load_target("nvdla_large", EngineConfig))
    stock = npu_of(load_target("nvdla_full", EngineConfig))
    dense, sparse = (skipping.compile(network(keep)) for keep in (1.0, 0.3))
    full, few = dense.time(), sparse.time()
    assert full.units["mac"].count == 3 * 2 * 9
    assert few.units["mac"].count == int((np.random.default_rng(0).random(54) < 0.3).sum())
    assert full.cycles == sum(layer.cycles for layer in full.layers) > few.cycles
    assert all(sum(layer.split.values()) == layer.cycles for layer in full.layers)
    assert full.bound_cycles <= full.cycles
    moved = [sum(layer.dram_bytes.values()) for layer in full.layers]
    assert sum(full.dram_bytes.values()) == sum(moved) == full.units["dram"].count
    assert "hypothetical" in dense.facts
    assert "hypothetical" not in stock.compile(network(1.0)).facts
    same, fewer = (stock.compile(network(keep)).time() for keep in (1.0, 0.3))
    assert same.bound["mac"] == fewer.bound["mac"]  # compressed weights save bytes only
    assert same.dram_bytes["weights"] > fewer.dram_bytes["weights"]


def test_simulate_counts_and_takes_the_reference_accuracy(gpw: Gpw) -> None:
    ran = gpw("simulate", *TINY, "target=nvdla_large", "scheme=dense", "--images", "40", "--json")
    assert ran.code == 0, ran.err
    stages = ran.json
    metrics = stages["simulate"]["metrics"]
    assert metrics["accuracy_of"] == "integer reference"
    assert metrics["n_test"] == 40
    assert metrics["cycles"] >= metrics["bound_cycles"] == max(metrics["bound"].values())
    assert 0 < metrics["mac_utilisation"] <= 1
    assert metrics["mac_tiles"] > 0
    shown = gpw("simulate", *TINY, "target=nvdla_large", "scheme=dense", "--images", "40")
    assert "nvdla_large" in shown.out
    assert "hypothetical" in shown.out


@pytest.mark.parametrize("option", ["--export", "--trace"])
def test_what_engines_cannot_do_is_one_line(gpw: Gpw, one_line: OneLine, option: str) -> None:
    line = one_line(gpw("simulate", *TINY, "target=nvdla_large", option, "file"))
    assert option in line
    assert "nvdla_large" in line


def test_a_wrong_number_is_one_line(gpw: Gpw, one_line: OneLine) -> None:
    ran = gpw("cycles", "data=digits", "target=nvdla_small", "target.atomic_k=0")
    assert "target.atomic_k=0" in one_line(ran)
