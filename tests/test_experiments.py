"""Whole studies as configuration: several grids, one folder, keys as without the experiment."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from conftest import TINY, Gpw

from gpw_cli.config.compose import compose
from gpw_cli.config.paths import options
from gpw_cli.pruning.groups import Scheme
from gpw_cli.stages.pipeline import plan
from gpw_cli.sweep.plan import Request, plan_sweep

OWN = """# @package _global_
defaults:
  - override /data: digits
sweep:
  name: mine
  until: prune
  grids:
    - {scheme: "dense,gpw", sparsity: "0.5:0.7"}
    - {scheme: "gpw,fine", sparsity: "0.5", scope: "global"}
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/mine.yaml").write_text(OWN)
    return ["--config-dir", str(tmp_path / "conf")]


@pytest.mark.parametrize("name", options("experiment"))
def test_shipped_experiments_plan_under_their_own_names(name: str) -> None:
    planned = plan_sweep(Request([f"+experiment={name}"]))
    assert planned.name == name
    assert len(planned.points) == len({point.id for point in planned.points}) >= 2
    assert all(
        point.steps[-1].stage.name == planned.points[0].config.sweep.until
        for point in planned.points
    )


def test_paper_gpw_is_every_scheme_sparsity_and_scope_and_three_seeds() -> None:
    axes = [point.axes for point in plan_sweep(Request(["experiment=paper_gpw"])).points]
    found = {(a["scheme"], a["sparsity"], a["scope"], a["seed"]) for a in axes if len(a) == 4}
    assert sum(len(a) == 5 for a in axes) == 20  # floor and ceil beside nearest
    sparsities, schemes = ("0.5", "0.6", "0.7", "0.8", "0.9"), "gpw block fine vector channel"
    assert found == {
        *product(schemes.split(), sparsities, ("layer", "global"), "0"),
        *product(("gpw", "block"), sparsities, ("layer",), "12"),
    }
    assert [a for a in axes if len(a) < 4] == [{"scheme": "dense", "seed": "0"}]


def test_a_point_of_an_experiment_has_the_keys_of_the_plain_configuration() -> None:
    point = plan_sweep(Request(["+experiment=paper_gpw", "sparsity=0.7", "seed=3"])).points[1]
    assert point.id == "scheme=gpw,scope=layer"
    plain = compose(["scheme=gpw", "sparsity=0.7", "seed=3", "pruning.keep_shift=true"])
    assert [step.key for step in plan(plain)] == [step.key for step in point.steps]


def test_values_of_the_command_line_replace_an_axis() -> None:
    swept = plan_sweep(
        Request(
            ["+experiment=paper_gpw", "seed=5,6", "scheme=gpw", "scope=layer", "rounding=nearest"]
        )
    )
    assert {tuple(point.axes.items()) for point in swept.points} == {
        (("sparsity", sparsity), ("seed", seed))
        for sparsity in ("0.5", "0.6", "0.7", "0.8", "0.9")
        for seed in "56"
    }


@pytest.mark.parametrize(
    ("short", "long"),
    [("sparsity=0.7", "pruning.sparsity=0.7"), ("scheme=gpw", "pruning=gpw")],
)
def test_an_axis_is_replaced_in_whatever_form_it_is_written(short: str, long: str) -> None:
    plans = [plan_sweep(Request(["+experiment=paper_gpw", text])) for text in (short, long)]
    assert len(plans[0].points) < 91
    assert [[s.key for s in p.steps] for p in plans[0].points] == [
        [s.key for s in p.steps] for p in plans[1].points
    ]
    assert plans[0].grids == plans[1].grids


def test_a_narrower_setting_is_not_undone_by_a_wider_axis() -> None:
    swept = plan_sweep(Request(["+experiment=paper_fusion", "quantizer.weight_bits=4"]))
    quantizers = [point.config.quantizer for point in swept.points]
    assert {quantizer.weight_bits for quantizer in quantizers} == {4}
    assert {quantizer.act_bits for quantizer in quantizers} == {4, 5, 6, 7, 8}


def test_own_experiment_runs_all_its_grids(gpw: Gpw, tmp_path: Path, own: list[str]) -> None:
    tiny = [text for text in TINY if not text.startswith("data=")]
    swept = gpw("sweep", "experiment=mine", *tiny, *own, "--json")
    assert swept.code == 0, swept.err
    folder = tmp_path / "results" / "mine"
    manifest = json.loads((folder / "sweep.json").read_text())
    assert manifest["grids"] == [
        {"scheme": ["dense", "gpw"], "sparsity": ["0.5", "0.6", "0.7"]},
        {"scheme": ["gpw", "fine"], "sparsity": ["0.5"], "scope": ["global"]},
    ]
    assert sorted(path.stem for path in (folder / "points").iterdir()) == [
        "scheme=dense",
        "scheme=fine,sparsity=0.5,scope=global",
        *(f"scheme=gpw,sparsity={s}" for s in ("0.5", "0.5,scope=global", "0.6", "0.7")),
    ]
    assert not (tmp_path / ".gpw/store/finetune").exists()
    assert "scope: global" in (folder / "report.html").read_text()


def test_an_unknown_experiment_is_one_line(gpw: Gpw) -> None:
    refused = gpw("sweep", "+experiment=paper_gwp")
    assert refused.code == 2
    assert "paper_gpw" in refused.err
    assert len(refused.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "dense"),
    [
        (["scheme=gpw", "sparsity=0.5"], ["scheme=dense"]),
        (["pruning.scheme=gpw", "pruning.permute=true"], ["scheme=dense"]),
        (["scheme=gpw,block", "sparsity=0.5,0.7", "bits=8,6"],
         ["scheme=dense,bits=8", "scheme=dense,bits=6"]),
        (["scheme=gpw", "seed=0,1", "pretrain.source=given"], ["scheme=dense,seed=0"]),
        (["scheme=gpw", "scope=cycles", "pruning.budget=9000,12000"], ["scheme=dense"]),
        (["scheme=dense", "bits=8,6"], ["bits=8", "bits=6"]),
        (["scheme=dense,gpw"], ["scheme=dense"]),
        (["sparsity=0.5,0.6"], ["scheme=dense"]),
    ],
)  # fmt: skip
def test_a_sweep_has_the_dense_network_of_each_combination(
    overrides: list[str], dense: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given").write_bytes(b"weights")
    points = plan_sweep(Request(["data=digits", *overrides])).points
    found = [point for point in points if point.config.pruning.scheme is Scheme.dense]
    assert [point.id for point in found] == dense
    assert len({point.id for point in points}) == len(points)
    assert len({point.steps[-1].key for point in points}) == len(points)
    pruned = [point for point in points if point not in found]
    for point in pruned:  # as typed: its key is that of the same gpw run
        own = [*overrides, *(f"{key}={value}" for key, value in point.axes.items())]
        typed = [text for text in own if "," not in text]
        assert plan(compose(["data=digits", *typed]))[-1].key == point.steps[-1].key


def test_an_experiment_is_what_its_file_says_and_a_dense_run_is_no_other() -> None:
    assert len(plan_sweep(Request(["+experiment=removed"])).points) == 2
    one = plan_sweep(Request(["data=digits", "scheme=gpw"], until="pretrain"))
    assert [point.id for point in one.points] == ["run"]
