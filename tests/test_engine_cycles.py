"""What scripts/engine_cycles.py puts beside the cycles: the accuracy on the engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "engine_cycles", TOP / "scripts" / "engine_cycles.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_accuracy_is_that_of_the_integers(script: ModuleType) -> None:
    runs = script.trained(TOP / "results" / "engines")
    rows = {row.sparsity: row for row in script.rows("resnet20", "nvdla_small", runs)}
    # in fp32 81.97 and 91.84
    assert (rows[0.9].npu_accuracy, rows[0.9].finetune_epochs) == (81.81, 10)
    assert (rows[0.0].npu_accuracy, rows[0.0].finetune_epochs) == (91.92, None)
    assert rows[0.6].npu_accuracy is None
    assert rows[0.0].dense_cycles / rows[0.9].cycles == pytest.approx(3.34, abs=0.005)


def test_without_a_sweep_there_are_cycles_alone(script: ModuleType, tmp_path: Path) -> None:
    assert script.trained(tmp_path).empty
    row = next(script.rows("resnet20", "vta", script.trained(tmp_path)))
    assert (row.npu_accuracy, row.cycles) == (None, row.dense_cycles)
