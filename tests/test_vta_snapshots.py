"""The compiler makes the programs that it made before (``vta_snapshots.py`` says why)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vta_snapshots import cases, network, numbers, program

from gpw_cli.quantization.reference import run
from gpw_cli.targets.vta.functional.simulator import simulate

FILE = Path(__file__).parent / "data" / "programs.json"
BEFORE: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


def test_every_network_has_its_numbers() -> None:
    assert list(BEFORE) == [f"{name}, {spec}" for name, spec in cases()]


@pytest.mark.parametrize(("name", "spec"), cases())
def test_programs_are_what_they_were(name: str, spec: str) -> None:
    made, graph = program(name, spec), network(name)
    found, before = numbers(made), BEFORE[f"{name}, {spec}"]
    for what, value in before.items():
        assert found[what] == value, f"{what}: if this is meant, see tests/vta_snapshots.py"
    assert found.keys() == before.keys()
    x = np.random.default_rng(7).integers(-128, 128, (2, *graph.input.shape)).astype(np.int8)
    np.testing.assert_array_equal(simulate(made, x).logits, run(graph, x))
