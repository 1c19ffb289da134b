"""Figures of accuracy and cost, by their numbers, and how things look on every page."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_sweep import write_sweep

from gpw_cli.report import overlay, passes, quantization, roofline, stages
from gpw_cli.report.build import build_report
from gpw_cli.report.frontier import networks
from gpw_cli.report.load import load_sweep
from gpw_cli.report.looks import LOOKS, ROLES, look
from gpw_cli.report.summary import dense_of, main_variant

RESULTS = Path(__file__).resolve().parent.parent / "results"

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


VTA = {
    "family": "vta",
    "name": "vta",
    "config_file": None,
    "vta": {"LOG_BATCH": 0, "LOG_BLOCK": 4, "LOG_BLOCK_IN": None, "LOG_BLOCK_OUT": 5},
    "timing": {"clock_mhz": 100.0, "bus_bits": 64, "gemm_cycles": 1},
}
ENGINE = {
    "family": "engine",
    "name": "nvdla_small",
    "clock_mhz": 1000.0,
    "arrays": 2,
    "atomic_k": 8,
    "atomic_c": 8,
    "dram_bytes": 4.0,
}


def test_roofs_come_from_the_configuration_of_the_target() -> None:
    vta = roofline.roof_of(VTA)
    assert vta is not None
    assert (vta.full, vta.peak, vta.bandwidth, vta.ridge) == (102.4e9, 102.4e9, 0.8e9, 128.0)
    slow = roofline.roof_of({**VTA, "timing": {**VTA["timing"], "gemm_cycles": 2}})
    assert slow is not None
    assert (slow.full, slow.peak) == (102.4e9, 51.2e9)
    engine = roofline.roof_of(ENGINE)
    assert engine is not None
    assert (engine.unit, engine.peak, engine.bandwidth) == ("mac", 256e9, 4e9)
    assert roofline.roof_of({"family": "eie"}) is None
    assert roofline.roof_of({**VTA, "config_file": "vta_config.json"}) is None
    assert roofline.roof_of({"name": "vta"}) is None  # of a record without these settings
    for edited in ({"LOG_BATCH": 1e9}, {"LOG_BATCH": "four"}, {"LOG_BATCH": None}, {}):
        assert roofline.roof_of({**VTA, "vta": edited}) is None
    assert roofline.roof_of({**ENGINE, "dram_bytes": 0}) is None


def test_a_network_stands_under_its_roof(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw",), (0.0, 0.5), npu=True)

    def time(record: dict[str, Any]) -> None:
        record["config"]["target"] = VTA
        metrics = record["stages"]["simulate"]["metrics"]
        metrics |= {"cycles": 200_000, "milliseconds": 2.0, "dram_bytes": 400_000}

    edit(folder, time)
    sweep = load_sweep(folder)
    found = roofline.places(sweep).set_index("sparsity")
    assert found["rate"][0.0] == pytest.approx(0.5 * 102.4e9)  # the array is busy half of the time
    assert found["intensity"][0.0] == pytest.approx(0.5 * 102.4e9 * 2e-3 / 400_000)
    (axes,) = roofline.draw_roofline(sweep).axes
    roof = axes.lines[0]
    assert roof.get_xdata()[1] == 128.0
    assert list(roof.get_ydata()[1:]) == [102.4, 102.4]


def test_accuracy_is_listed_stage_by_stage(tmp_path: Path) -> None:
    write_sweep(tmp_path / "s", ("block", "gpw"), (0.0, 0.5), (0, 1, 2), npu=True)
    sweep = load_sweep(tmp_path / "s")
    table = stages.stages_table(sweep)
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert [row[:2] for row in table.rows][:2] == [["gpw", "0 %"], ["gpw", "50 %"]]
    assert rows["gpw", "50 %"] == [
        "91.50", "60.65", "90.65", "90.45", "90.55", "90.55 ± 0.10", "-0.10", "3",
    ]  # fmt: skip
    first, _ = stages.draw_stages(sweep).axes
    half = next(line for line in first.lines if len(line.get_xdata()) == 6 and line.get_ydata()[1])
    assert list(half.get_xdata()) == [0, 1, 2, 3, 4, 5]
    numbers = set(re.findall(r"[+-][\d.]+\d", stages.stages_caption(sweep)))
    assert {"-0.20", "+0.10", "+0.00"} <= numbers  # integers, fused, on vta


PASSES = {"tile": 700, "first_layer": 100, "clamp": 150, "copy": 0, "load": 40, "stall": 10}


def test_cycles_by_pass_leave_out_runs_of_before(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("block", "gpw"), (0.5,), (0, 1), npu=True)

    def count(record: dict[str, Any]) -> None:
        metrics = record["stages"]["simulate"]["metrics"]
        if record["axes"]["scheme"] == "gpw":
            scale = 1 + record["axes"]["seed"]
            metrics["cycles_by_pass"] = {name: scale * n for name, n in PASSES.items()}
            metrics |= {"gemm_weights_utilisation": 0.4, "gemm_helpers_utilisation": 0.1}
            metrics["pictures_per_run"] = 2

    edit(folder, count)
    sweep = load_sweep(folder)
    (row,) = passes.by_pass(sweep).to_dict("records")
    assert row["n"] == 2
    assert {name: row[name] for name in PASSES if name != "copy"} == {
        name: 0.75 * n
        for name, n in PASSES.items()
        if n  # the mean of 1 and 2, over two images
    }
    assert "copy" not in row
    table = passes.passes_table(sweep)
    cells = dict(zip(table.head, table.rows[0], strict=True))
    assert (cells["cycles"], cells["tile"], cells["first layer"]) == ("750", "525", "75")
    assert cells["gemm weights busy (%)"] == "40.0"
    assert cells["gemm helpers busy (%)"] == "10.0"
    assert table.note.count("2 runs") == 1
    (axes,) = passes.draw_passes(sweep).axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(0.75)
    assert "2 runs" in passes.left_out(sweep)


def test_cycles_by_pass_that_are_no_numbers_are_damage(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw",), (0.5,), npu=True)

    def spoil(record: dict[str, Any]) -> None:
        record["stages"]["simulate"]["metrics"]["cycles_by_pass"] = {"tile": "many"}

    edit(folder, spoil)
    assert len(load_sweep(folder).damaged) == 1


def tensor(name: str, high: float, clipped: float) -> dict[str, Any]:
    row = {"name": name, "kind": "conv", "min": 0.0, "max": high, "scale": 0.125}
    return {**row, "exponent": -3, "clipped": clipped}


def test_ranges_are_drawn_in_steps_and_only_those_clipped_most(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw",), (0.5,), npu=True)
    rows = [tensor(f"layer{n}", 10.0 + n, n * 1e-5) for n in range(40)]

    def fuse(record: dict[str, Any]) -> None:
        record["stages"]["fuse"]["layers"] = [*rows, tensor("logits", 1.0, 0.0)]
        record["stages"]["quantize"]["metrics"] |= {"weight_bits": 8, "act_bits": 8}

    edit(folder, fuse)
    sweep = load_sweep(folder)
    (axes,) = quantization.draw_scales(sweep).axes
    names = [label.get_text().split()[0] for label in axes.get_yticklabels()]
    assert names == [f"layer{n}" for n in range(10, 40)]
    ends = [bar.get_width() for bar in axes.patches]
    assert ends == [min(127.0, (10.0 + n) / 0.125) for n in range(10, 40)]
    assert "layer39" in quantization.scales_caption(sweep)


def test_a_page_with_everything_is_written_twice_alike(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_sweep(folder, ("gpw",), (0.0, 0.5), npu=True)

    def fill(record: dict[str, Any]) -> None:
        record["config"]["target"] = VTA
        metrics = record["stages"]["simulate"]["metrics"]
        metrics |= {"milliseconds": metrics["cycles"] / 1e5, "cycles_by_pass": PASSES}

    edit(folder, fill)
    first = {path.name: path.read_bytes() for path in build_report(folder)}
    assert {"roofline.svg", "cycles_by_pass.svg", "accuracy_by_stage.svg"} <= set(first)
    assert first == {path.name: path.read_bytes() for path in build_report(folder)}
    tips = first["cycles_by_pass.svg"].decode().count("<title>")
    assert tips == 2 * sum(n > 0 for n in PASSES.values())


def test_the_numbers_of_near_roofs_do_not_touch() -> None:
    figure = roofline.draw_roofline(load_sweep(RESULTS / "engines"))
    figure.draw_without_rendering()
    texts = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(texts) == 6  # one a target
    assert not any(a.overlaps(b) for a, b in itertools.combinations(texts, 2))
