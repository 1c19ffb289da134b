"""Figures of accuracy and cost, by their numbers, and how things look on every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_sweep import write_sweep

from gpw_cli.report import overlay
from gpw_cli.report.frontier import networks
from gpw_cli.report.load import load_sweep
from gpw_cli.report.style import LOOKS, ROLES, look
from gpw_cli.report.summary import dense_of, main_variant

SPARSITIES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Apply ``change`` to the record of every point."""
    for file in sorted((folder / "points").glob("*.json")):
        record = json.loads(file.read_text())
        change(record)
        file.write_text(json.dumps(record))


def luminance(colour: str) -> float:
    """WCAG 2.1's relative luminance of ``#rrggbb``."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_every_look_is_told_apart_and_its_names_can_be_read(theme: int) -> None:
    for what in ("scheme", "target", "quantizer"):
        looks = list(LOOKS[what].values())
        assert len({(own.role, own.marker) for own in looks}) == len(looks)
        for own in looks:
            assert contrast(ROLES[own.role][theme], ROLES["page"][theme]) >= 3.0
    colours = [pair[theme] for pair in ROLES.values()]
    assert len(set(colours)) == len(colours)  # a figure's colour names its role
    assert look("scheme", "of a plug-in") == look("scheme", "of a plug-in")
    assert look("scheme", "of a plug-in") not in LOOKS["scheme"].values()


def test_all_variants_stand_on_the_same_axes(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=SPARSITIES, scopes=("layer", "global"), npu=True)
    sweep = load_sweep(tmp_path / "s")
    found = networks(sweep)
    figure = overlay.draw_overlay(sweep)
    cycles, dram = figure.axes
    for axes, cost in zip((cycles, dram), overlay.costs(found), strict=True):
        drawn = [
            line for line in axes.lines if line.get_marker() in ("o", "s") and line.get_alpha() != 0
        ]
        assert len(drawn) == 4  # two schemes, two scopes
        places = sorted(x for line in drawn for x in line.get_xdata())
        assert places == pytest.approx(sorted(found[cost.column] * cost.factor))
        assert {line.get_fillstyle() for line in drawn} == {"full", "none"}
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:4] == ["gpw", "block", "scope layer", "scope global"]
    assert cycles.get_ylim() == dram.get_ylim()


def test_names_of_the_front_touch_nothing(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=SPARSITIES, npu=True)
    sweep = load_sweep(tmp_path / "s")
    axes = overlay.draw_overlay(sweep).axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 3 <= len(boxes) <= networks(sweep)["front"].sum()
    assert all(axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 for box in boxes)
    assert all(axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1 for box in boxes)
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_clocks_that_differ_have_a_panel_in_ms(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", sparsities=(0.5,), npu=True)

    def clock(record: dict[str, Any]) -> None:
        metrics = record["stages"]["simulate"]["metrics"]
        mhz = 100 if record["axes"]["scheme"] == "gpw" else 800
        metrics["milliseconds"] = metrics["cycles"] / mhz / 1e3

    edit(tmp_path / "s", clock)
    sweep = load_sweep(tmp_path / "s")
    columns = [cost.column for cost in overlay.costs(networks(sweep))]
    assert columns == ["cycles", "milliseconds", "dram_bytes"]
    assert overlay.clock_ratio(networks(sweep)) is None
    assert not overlay.draw_overlay(sweep).axes[0].child_axes


def test_dense_networks_of_other_widths_are_not_averaged(tmp_path: Path) -> None:
    """Two small dense networks beside the one that was pruned under a budget of cycles."""
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw", "block"), (0.0, 0.5), npu=True)
    widths = {("gpw", 0.0): "[16,32,96]", ("block", 0.0): "[16,48,64]"}

    def reshape(record: dict[str, Any]) -> None:
        axes = record["axes"]
        key = (axes["scheme"], axes["sparsity"])
        if key in widths:
            axes |= {"scheme": "dense", "model": "resnet8", "model.widths": widths[key]}
        elif key[0] == "block":
            axes |= {"scheme": "dense", "sparsity": 0.0}
        else:
            axes |= {"scope": "cycles", "pruning.branches": "[layer1.0,layer2]"}

    edit(folder, reshape)
    manifest = json.loads((folder / "sweep.json").read_text())
    for point in manifest["points"]:
        point["axes"] = {}
    (folder / "sweep.json").write_text(json.dumps(manifest))
    sweep = load_sweep(folder)
    found = networks(sweep)
    assert len(found) == 4
    assert set(found["n"]) == {1}
    dense = found[found["scheme"] == "dense"]
    assert set(dense["variant"]) == {"", "widths [16,32,96]", "widths [16,48,64]"}
    assert list(dense_of(dense, "scope cycles")["variant"]) == [""]
    only, _ = main_variant(sweep)
    assert len(only.done) == 2
