"""The figure that compares NPUs: each with the dense network on itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_sweep import numbers, write_sweep

from gpw_cli.report import targets
from gpw_cli.report.build import build_report
from gpw_cli.report.load import load_sweep

REMARK = "the stock hardware skips no zero tiles"


def write_two_targets(folder: Path) -> None:
    """vta as it comes; an engine with 100 cycles more a point and a bound of 500."""
    ids = write_sweep(folder, schemes=("gpw",), sparsities=(0.0, 0.5, 0.9), npu=True)
    head = json.loads((folder / "sweep.json").read_text())
    for point in ids:
        content = json.loads((folder / "points" / f"{point}.json").read_text())
        name = f"target=engine,{point}"
        content["axes"]["target"] = "engine"
        content["config"]["target"]["name"] = "engine"
        metrics = content["stages"]["simulate"]["metrics"]
        metrics |= {"cycles": metrics["cycles"] + 100, "bound_cycles": 500}
        metrics |= {"accuracy_of": "integer reference", "hypothetical": REMARK}
        own = {**content, "id": name}
        (folder / "points" / f"{name}.json").write_text(json.dumps(own))
        head["points"].append({"id": name, "axes": content["axes"], "keys": {}})
    (folder / "sweep.json").write_text(json.dumps(head))


def test_each_npu_is_compared_with_dense_on_itself(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    write_two_targets(folder)
    sweep = load_sweep(folder)
    assert targets.several(sweep)
    cycles = sweep.done.set_index(["target", "sparsity"])["cycles"]
    vta, engine = targets.speedups(sweep.done)
    assert (vta.name, engine.name) == ("vta", "engine")
    assert vta.x == engine.x == [0.0, 0.5, 0.9]
    for series in (vta, engine):
        expected = [cycles[series.name, 0.0] / cycles[series.name, x] for x in series.x]
        assert series.y == pytest.approx(expected)
    assert engine.y[2] < vta.y[2]
    assert engine.bound == [1.0, 1.0, 1.0]
    assert vta.bound == pytest.approx(vta.y, rel=1e-3)  # 0.9 of the cycles at every point
    accuracies = {series.name: series.y for series in targets.accuracies(sweep.done)}
    assert accuracies["vta"] == accuracies["engine"]
    ends = [number for s in (vta, engine) for number in (s.y[2], 90, s.bound[2])]
    caption = targets.targets_caption(sweep)
    assert numbers(caption)[:6] == [round(number, 2) for number in ends]
    assert set(sweep.done[sweep.done["hypothetical"].notna()]["target"]) == {"engine"}
    assert "stock hardware of engine " in caption


def test_the_report_draws_it_only_for_several_npus(tmp_path: Path) -> None:
    both, one = tmp_path / "both", tmp_path / "one"
    write_two_targets(both)
    write_sweep(one, schemes=("gpw",), npu=True)
    names = [{file.stem for file in build_report(folder)} for folder in (both, one)]
    assert [("targets" in found) for found in names] == [True, False]
    assert "NPUs side by side" in (both / "report.html").read_text()
