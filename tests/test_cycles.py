"""``gpw cycles`` and what is checked before any training."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from conftest import Gpw

from gpw_cli.config.compose import compose
from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.stages.pipeline import plan
from gpw_cli.stages.preflight import MANIFEST, Wanted, preflight
from gpw_cli.store.store import Store


def test_cycles_of_an_untrained_network(gpw: Gpw) -> None:
    found = gpw("cycles", "data=digits", "sparsity=0.5", "--json").json
    assert found["pruned"]["cycles"] < found["dense"]["cycles"]
    assert found["speedup"] == found["dense"]["cycles"] / found["pruned"]["cycles"]
    for run, of in (("dense", "cycles"), ("pruned", "pruned_cycles")):
        assert sum(layer[of] for layer in found["layers"]) == found[run]["cycles"]
    assert sum(layer["dram_bytes"] for layer in found["layers"]) == found["dense"]["dram_bytes"]
    dense = gpw("cycles", "data=digits", "scheme=dense", "--json").json
    assert dense["dense"] == found["dense"]
    assert dense["pruned"] is None


def test_a_network_that_is_cut_through_has_no_speedup(gpw: Gpw) -> None:
    block = ("cycles", "data=digits", "scheme=block", "sparsity=0.9")
    found = gpw(*block, "--json").json
    assert found["cut"]
    assert found["speedup"] is None
    assert found["pruned"]["cycles"] > 0
    told = gpw(*block).out
    assert "cuts the network through" in told
    assert "times faster" not in told
    whole = gpw("cycles", "data=digits", "scheme=gpw", "sparsity=0.5", "--json").json
    assert not whole["cut"]
    # a residual network with an empty branch still sees the image
    assert not gpw("cycles", "scheme=block", "sparsity=0.9", "--json").json["cut"]


def test_shipped_weights_are_taken_where_there_are_any(gpw: Gpw) -> None:
    found = gpw("cycles", "sparsity=0.7", "--json").json
    assert found["weights"] == "resnet20-A-cifar10.safetensors"
    assert found["dense"]["milliseconds"] == pytest.approx(found["dense"]["cycles"] / 1e5)
    ran = gpw("cycles", "scheme=dense")
    assert "layer1.0.conv1" in ran.out
    assert f"{found['dense']['cycles']:,} cycles" in ran.out


def test_a_layer_without_weights_costs_nothing(gpw: Gpw) -> None:
    found = gpw("cycles", "scheme=block", "sparsity=0.9", "--json").json
    after = {layer["name"]: layer["pruned_cycles"] for layer in found["layers"]}
    assert {after[f"layer1.{n}.conv{c}"] for n in range(3) for c in (1, 2)} == {0}
    assert found["pruned"]["cycles"] == sum(after.values()) < 45_000  # as asked for
    kept = gpw("cycles", "scheme=block", "sparsity=0.9", "pruning.keep_shift=true", "--json").json
    assert kept["pruned"]["cycles"] > 2 * found["pruned"]["cycles"]


def test_more_classes_make_a_larger_classifier(gpw: Gpw) -> None:
    few, many = (
        gpw("cycles", "data=digits", "scheme=dense", "--classes", n, "--json").json["layers"][-1]
        for n in ("10", "200")
    )
    assert many["dram_bytes"] > 5 * few["dram_bytes"]


@pytest.mark.parametrize(
    ("command", "dry"), [("run", True), ("run", False), ("sweep", True), ("simulate", False)]
)
def test_what_cannot_run_is_said_before_any_training(
    gpw: Gpw, tmp_path: Path, command: str, dry: bool
) -> None:
    arguments = ("model=mobilenet_v3_small", "data.size=32", *(["--dry-run"] if dry else []))
    ran = gpw(command, *arguments)
    assert ran.code == 2
    assert "hardswish" in ran.err
    assert "features.0.2, features.4.block.0.2" in ran.err
    assert not list(tmp_path.glob(".gpw/store/*/*"))


def test_what_is_trained_already_is_not_checked_again(tmp_path: Path) -> None:
    config = compose(["model=mobilenet_v3_small", "data.size=32"])
    store = Store(tmp_path, print)
    wanted = Wanted(config, plan(config))
    assert wanted.trains(store)
    for stage in ("pretrain", "finetune"):
        step = next(step for step in wanted.steps if step.stage.name == stage)
        store.path(stage, step.key).mkdir(parents=True)
        (store.path(stage, step.key) / MANIFEST).write_text("{}")
    preflight([wanted], store)
    until_pretrain = Wanted(config, plan(config, "pretrain"))
    preflight([until_pretrain], Store(tmp_path / "empty", print))  # needs no NPU


def test_a_sweep_is_refused_with_every_network_in_it(tmp_path: Path) -> None:
    configs = [
        compose([f"model={name}", "data.size=32"]) for name in ("regnet_y_400mf", "vit_b_16")
    ]
    with pytest.raises(UnsupportedError) as caught:
        preflight([Wanted(config, plan(config)) for config in configs], Store(tmp_path, print))
    assert "RegNet" in str(caught.value)
    assert "VisionTransformer" in str(caught.value)


def test_a_budget_that_cannot_be_met_is_refused_before_training(gpw: Gpw, tmp_path: Path) -> None:
    for given in ("pruning.budget=5000", "pruning.budget_ms=0.05"):
        ran = gpw("finetune", "model=resnet8", "scope=cycles", given)
        assert ran.code == 2
        assert ran.err.startswith(f"gpw: {given} cannot be met")
        least = int(re.search(r"still takes (\d+)", ran.err)[1])
        name, _, smallest = re.search(r"budget is (\S+)(=)(\S+)", ran.err).groups()
        cycles = float(smallest) * (100_000 if name == "pruning.budget_ms" else 1)
        assert least / 0.985 <= cycles <= least / 0.985 + 11
    assert not list(tmp_path.glob(".gpw/store/*/*"))


def test_a_budget_near_the_smallest_network_is_left_to_prune(tmp_path: Path) -> None:
    """A tenth of the untrained network's cycles is left to what training changes."""
    chosen = ["model=resnet8", "scope=cycles"]

    def check(budget: int) -> None:
        config = compose([*chosen, f"pruning.budget={budget}"])
        preflight([Wanted(config, plan(config))], Store(tmp_path, print))

    with pytest.raises(UsageError, match="still takes") as caught:
        check(5000)
    least = int(str(caught.value).split("still takes ")[1].split()[0])
    check(math.ceil(0.91 * least))
    with pytest.raises(UsageError, match=f"still takes {least}"):
        check(int(0.89 * least))


def test_what_is_wrong_with_other_points_is_said_too(tmp_path: Path) -> None:
    chosen = (
        ["model=resnet8", "scope=cycles", "pruning.budget=72000", "pruning.branches=[nope]"],
        ["model=vit_b_16", "data.size=32"],
    )
    configs = [compose(overrides) for overrides in chosen]
    with pytest.raises(UsageError) as caught:
        preflight([Wanted(config, plan(config)) for config in configs], Store(tmp_path, print))
    assert "pruning.branches names nope" in str(caught.value)
    assert "VisionTransformer" in str(caught.value)


def test_a_budget_is_met_without_training(gpw: Gpw) -> None:
    ran = gpw("cycles", "data=digits", "scope=cycles", "pruning.budget=12000", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["scheme"] == "gpw within 12,000 cycles"
    assert 0 < ran.json["pruned"]["cycles"] <= 12_000 < ran.json["dense"]["cycles"]
    refused = gpw("cycles", "data=digits", "scope=cycles", "pruning.budget=1")
    assert refused.code == 2
    assert len(refused.err.splitlines()) == 1
