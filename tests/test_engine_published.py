"""The engine model beside published figures, as scripts/bench_engines.py prints them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "bench_engines.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_engines", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_engines"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_nvdla_resnet50(bench: ModuleType) -> None:
    rows = list(bench.nvdla_frames())
    assert [row.macs for row in rows] == [2048, 1024, 512, 256, 128, 64, 32]
    for row in rows:
        assert row.sheet == pytest.approx(row.published, rel=0.014)  # the sheet is the table's
        assert row.layers == 40
        assert row.sound == pytest.approx(1, abs=0.042)  # ours on what it counts for what it is
        assert row.ours > row.published
    assert [round(row.ours, 1) for row in rows[:3]] == [323.2, 224.3, 135.1]
    assert [row.stock is None for row in rows] == [False] * 4 + [True, False, True]


def test_dnnweaver_tiny_yolo(bench: ModuleType) -> None:
    rows = {name: numbers for name, *numbers in bench.dnnweaver_layers()}
    # 13 x 13 pixels, 32 x 32 tiles of 32, 9 positions; its seven loops start in 2 cycles each
    assert rows["conv7"][1] == 169 * 32 * 32 * 9
    assert rows["conv7"][0] == 1_658_152
    assert sum(own for own, _, _ in rows.values()) == 5_302_434
    assert sum(ours for _, ours, _ in rows.values()) == 5_083_520
    assert all(-0.12 < ours / own - 1 < 0 for own, ours, _ in rows.values())
    assert all(whole >= ours for _, ours, whole in rows.values())
