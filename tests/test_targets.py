"""A second family of NPUs through the command line, and keys that a new family leaves alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Gpw, Ran

from gpw_cli.config.compose import compose
from gpw_cli.config.paths import options
from gpw_cli.errors import UsageError
from gpw_cli.store.keys import stage_key
from gpw_cli.sweep.plan import Request, plan_sweep
from gpw_cli.targets import registry
from gpw_cli.targets.base import Exports, Traces

RESULTS = Path(__file__).parents[1] / "results"
TOY = "family: toy\nname: {name}\nlanes: 8\nguesses: {guesses}\nclock_mhz: 500.0\n"
TINY = ("data=digits", "pretrain.train.epochs=0", "finetune.train.epochs=0")
OneLine = Callable[[Ran], str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all: up to the fused network nothing depends on the target but its tile."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture
def toy(gpw: Gpw, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Gpw:
    """The command line with one family more: a package, options, and one line of the registry."""
    family = registry.Family("toy_npu", "ToyConfig", "toy_of")
    monkeypatch.setitem(registry.FAMILIES, "toy", family)
    folder = tmp_path / "own" / "target"
    folder.mkdir(parents=True)
    for name, guesses in (("toy", "false"), ("oracle", "true")):
        (folder / f"{name}.yaml").write_text(TOY.format(name=name, guesses=guesses))
    return lambda *arguments: gpw(*arguments, f"runtime.root={root}", "--config-dir", "own")


def test_a_users_own_option_says_everything_or_begins_with_one_that_does(
    gpw: Gpw, one_line: OneLine, tmp_path: Path
) -> None:
    folder = tmp_path / "own" / "target"
    folder.mkdir(parents=True)
    (folder / "bare.yaml").write_text("family: eie\nname: bare\npes: 8\n")
    (folder / "mine.yaml").write_text("defaults: [eie, _self_]\nname: mine\npes: 8\n")
    command = ("config", "--json", "--config-dir", "own")
    refused = one_line(gpw(*command, "target=bare"))
    assert "no value for target.queue_depth" in refused
    assert "defaults: [NAME, _self_]" in refused
    found = gpw(*command, "target=mine").json["target"]
    assert (found["pes"], found["queue_depth"], found["energy"]["add"]) == (8, 8, 0.1)


def test_a_family_with_timing_alone_takes_the_accuracy_of_the_reference(toy: Gpw) -> None:
    ran = toy("simulate", *TINY, "sparsity=0.5", "target=toy", "--json")
    assert ran.code == 0, ran.err
    metrics, fused = ran.json["simulate"]["metrics"], ran.json["fuse"]["metrics"]
    assert metrics["accuracy_of"] == "integer reference"
    assert (metrics["test_accuracy"], metrics["n_test"]) == (fused["test_accuracy"], 359)
    assert metrics["mac_tiles"] == metrics["cycles"] == metrics["bound_cycles"]
    assert (metrics["mac_utilisation"], metrics["lane_pairs"]) == (1.0, 64)
    assert "toy has no functional simulation" in ran.err
    dense = toy("simulate", *TINY, "scheme=dense", "target=toy", "--images", "20", "--json")
    assert dense.json["simulate"]["metrics"]["n_test"] == 20
    assert dense.json["simulate"]["metrics"]["cycles"] > metrics["cycles"]
    shown = toy("simulate", *TINY, "sparsity=0.5", "target=toy").out.splitlines()[-1]
    assert shown.startswith(f"toy: {metrics['cycles']:,} cycles (")
    assert "MAC busy 100.0 %" in shown
    assert "lane pairs 64; remark made up" in shown


def test_a_family_with_its_own_arithmetic_has_its_own_accuracy(toy: Gpw) -> None:
    ran = toy("simulate", *TINY, "scheme=dense", "target=oracle", "--json")
    assert ran.code == 0, ran.err
    metrics = ran.json["simulate"]["metrics"]
    assert metrics["accuracy_of"] == "own arithmetic"
    assert metrics["test_accuracy"] == pytest.approx(100 * 36 / 359, abs=1e-3)  # zeros in the test


def test_what_a_target_does_not_offer_is_refused_before_anything_runs(
    toy: Gpw, one_line: OneLine, root: Path
) -> None:
    for option in ("--export", "--trace"):
        refused = one_line(toy("simulate", *TINY, "seed=5", "target=toy", option, "out"))
        assert refused.startswith(f"gpw: {option}: target toy ")
    made = [json.loads(file.read_text()) for file in root.glob("store/*/*/manifest.json")]
    assert 5 not in {manifest["seed"] for manifest in made}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("target.lanes=many", "target.lanes=many"),
        ("target.timing.bus_bits=128", "unknown key 'target.timing.bus_bits'"),
        ("target.lane=4", "did you mean 'target.lanes'"),
        ("target.family=vta", "target=NAME"),
    ],
)
def test_a_familys_own_settings_are_checked(
    toy: Gpw, one_line: OneLine, override: str, words: str
) -> None:
    assert words in one_line(toy("simulate", *TINY, "target=toy", override))


def test_a_family_that_is_not_there(gpw: Gpw, one_line: OneLine, tmp_path: Path) -> None:
    (tmp_path / "own/target").mkdir(parents=True)
    (tmp_path / "own/target/toy.yaml").write_text(TOY.format(name="toy", guesses="false"))
    refused = one_line(gpw("simulate", "target=toy", "--config-dir", "own"))
    assert "target.family=toy: expected one of " in refused


def test_a_sweep_over_families_reports_each_under_its_own_name(toy: Gpw, tmp_path: Path) -> None:
    targets = ("target=vta,toy", "pruning.tile_out=16", "pruning.tile_in=16")
    ran = toy("sweep", *TINY, *targets, "sparsity=0.5", "scheme=gpw", "--name", "both")
    assert ran.code == 0, ran.err
    points = {f.stem: json.loads(f.read_text()) for f in tmp_path.glob("results/both/points/*")}
    metrics = {name: point["stages"]["simulate"]["metrics"] for name, point in points.items()}
    pruned = {"target=vta", "target=toy"}
    assert set(metrics) == pruned | {f"scheme=dense,{name}" for name in pruned}
    assert metrics["target=vta"]["logits_equal_reference"]
    assert metrics["target=toy"]["accuracy_of"] == "integer reference"
    with (tmp_path / "results/both/results.csv").open() as stream:
        named = list(csv.DictReader(stream))
    assert [row["target"] for row in named] == ["vta", "toy"] * 2
    assert [bool(row["mac_utilisation"]) for row in named] == [False, True] * 2
    page = (tmp_path / "results/both/report.html").read_text()
    assert "toy: cycles only, the accuracy is the integer reference" in page


def test_vta_offers_everything() -> None:
    program = registry.npu_of(compose([]).target).program
    assert issubclass(program, Exports)
    assert issubclass(program, Traces)
    assert hasattr(program, "bit_exact")


@pytest.mark.parametrize("name", options("target"))
def test_every_shipped_target_has_its_own_key_and_name(name: str) -> None:
    target = compose([f"target={name}"]).target
    assert target.name == name
    tile_out, tile_in = registry.npu_of(target).tile
    assert min(tile_out, tile_in) >= 1
    with pytest.raises(UsageError, match="unknown key"):
        compose([f"target={name}", "target.no_such_setting=1"])


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*/sweep.json")), ids=lambda f: f.parent.name)
def test_committed_results_keep_their_keys(file: Path) -> None:
    manifest = json.loads(file.read_text())
    if any(text.startswith("pretrain.source=") for text in manifest["overrides"]):
        pytest.skip("its weights are not in this checkout")
    planned = {p.id: p.steps for p in plan_sweep(Request(manifest["overrides"])).points}
    for point in manifest["points"]:
        parent = None
        for step in planned[point["id"]]:
            key, stage = point["keys"][step.stage.name], step.stage
            versions = range(1, stage.version + 1)  # a stage may compute something else since
            assert key in {stage_key(stage.name, v, step.inputs, parent) for v in versions}
            parent = key
