from __future__ import annotations

import hydra
import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from gpw_cli.config.compose import compose, to_plain
from gpw_cli.config.composed import composed
from gpw_cli.config.paths import conf_dir
from gpw_cli.errors import UsageError
from gpw_cli.pruning.allocation import Scope
from gpw_cli.pruning.groups import Scheme
from gpw_cli.stages.names import STAGES
from gpw_cli.stages.pipeline import plan


def test_defaults() -> None:
    config = compose([])
    assert (config.model.name, config.data.name) == ("resnet20", "cifar10")
    assert config.pruning.scheme is Scheme.gpw
    assert (config.pretrain.train.name, config.finetune.train.name) == ("fast", "restart")


def test_short_forms() -> None:
    config = compose(["sparsity=0.7", "scheme=block", "scope=global", "train=paper"])
    assert (config.pruning.sparsity, config.pruning.scheme) == (0.7, Scheme.block)
    assert config.pruning.scope is Scope["global"]
    assert config.pretrain.train.epochs == config.finetune.train.epochs == 200
    assert config.finetune.train.milestones == [100, 150]
    assert compose(["finetune.train=paper"]).pretrain.train.name == "fast"


def test_digits_bring_their_network_and_explicit_choices_win() -> None:
    assert compose(["data=digits"]).model.name == "digits_cnn"
    chosen = compose(["data=digits", "model=resnet20", "pretrain.train=fast"])
    assert (chosen.model.name, chosen.pretrain.train.name) == ("resnet20", "fast")
    assert chosen.finetune.train.name == "digits_restart"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sparsty=0.7", ["unknown key 'sparsty'", "did you mean 'sparsity'"]),
        ("sparsity=abc", ["'abc'", "Float"]),
        ("sparsity=1", ["sparsity=1 is outside [0, 1)"]),
        ("sparsity=90", ["sparsity=90 is outside [0, 1)", "try sparsity=0.9"]),
        ("sparsity=-0.1", ["outside [0, 1)", "try sparsity=0.7"]),
        ("sparsity=nan", ["outside [0, 1)"]),
        ("sparsity=0.5,0.6", ["several values", "gpw sweep"]),
        ("sparsity=0.5:0.7", ["several values", "gpw sweep pruning.sparsity=0.5:0.7"]),
        ("model=resnet21", ["no model 'resnet21'", "resnet20", "did you mean"]),
        (
            "scheme=gwp",
            ["expected one of balanced, block, channel, dense, fine, gpw, vector", "'gpw'"],
        ),
        ("pruning.scope=all", ["all", "layer, block, global, cycles"]),
        ("finetune.train.epochs=-1", ["finetune.train.epochs=-1 must be at least 0"]),
        ("finetune.train.momentum=0", ["momentum=0 needs finetune.train.nesterov=false"]),
        ("finetune.train.lr=-0.1", ["finetune.train.lr=-0.1 must be at least 0"]),
        ("pretrain.train.lr=nan", ["pretrain.train.lr=nan must be at least 0"]),
        ("finetune.train.label_smoothing=1.5", ["label_smoothing=1.5 must be between 0 and 1"]),
        ("data.size=-3", ["data.size=-3 must be between 0 and 4096"]),
        ("hydra.run.dir=x", ["no effect"]),
        ("scope=cycles", ["pruning.budget=72000", "pruning.budget_ms=0.72"]),
        ("pruning.budget=72000", ["needs scope=cycles", "scope=layer"]),
        ("pruning.budget=-1", ["pruning.budget=-1 must be at least 0"]),
        ("pruning.budget_ms=nan", ["pruning.budget_ms=nan must be at least 0"]),
        ("pruning.margin=0.5", ["pruning.margin=0.5 must be at least 0 and below 0.5"]),
        ("pruning.gradient_batches=0", ["pruning.gradient_batches=0 must be at least 1"]),
        ("finetune.rewind=46", ["finetune.rewind=46", "pretrain.train.epochs=45"]),
        ("finetune.gradual.steps=4", ["finetune.gradual.steps=4", "within the 10 epochs"]),
        ("finetune.distill.weight=1.5", ["finetune.distill.weight=1.5 must be between 0 and 1"]),
        ("finetune.distill.temperature=0", ["finetune.distill.temperature=0.0 must be above 0"]),
        ("pretrain.distill.teacher=dense", ["no network before pre-training"]),
        ("data.validation=-1", ["data.validation=-1 must be at least 0"]),
        ("model.widths=[16,32]", ["model.widths=[16,32]", "[16,32,96]"]),
        ("model.widths=[64,32,16]", ["none narrower than the one before"]),
        ("word", ["no override", "key=value"]),
        ("sparsity=", ["sparsity"]),
        ("modle=resnet20", ["did you mean 'model'"]),
        ("seed=[", ["seed"]),
    ],
)
def test_bad_overrides_are_one_helpful_line(override: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        compose([override])
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_keys_ignore_runtime_and_spelling() -> None:
    base = plan(compose(["sparsity=0.5"]))
    same = plan(compose(["sparsity=5e-1", "runtime.threads=1", "runtime.root=/elsewhere"]))
    assert [s.key for s in base] == [s.key for s in same]
    other = plan(compose(["sparsity=0.6"]))
    equal = [a.key == b.key for a, b in zip(base, other, strict=True)]
    assert equal == [True, False, False, False, False, False]
    seeded = plan(compose(["sparsity=0.5", "seed=1"]))
    # shipped weights and masks do not depend on the seed; fine-tuning does
    equal = [a.key == b.key for a, b in zip(base, seeded, strict=True)]
    assert equal == [True, True, False, False, False, False]
    bus = plan(compose(["sparsity=0.5", "target.timing.bus_bits=128"]))
    equal = [a.key == b.key for a, b in zip(base, bus, strict=True)]
    assert equal == [True, True, True, True, True, False]


def test_the_reserve_is_part_of_a_key_only_under_a_budget() -> None:
    def keys(*overrides: str) -> list[str]:
        return [s.key for s in plan(compose([*overrides]))]

    budget = ("scope=cycles", "pruning.budget=72000")
    assert keys(*budget) != keys(*budget, "pruning.reserve=false")
    assert keys("sparsity=0.5") == keys("sparsity=0.5", "pruning.reserve=false")


def test_dense_skips_pruning_and_fine_tuning() -> None:
    steps = plan(compose(["scheme=dense"]))
    assert [s.stage.name for s in steps] == ["pretrain", "quantize", "fuse", "simulate"]


def test_a_pipeline_may_end_at_any_stage() -> None:
    assert [s.stage.name for s in plan(compose([]))] == list(STAGES)
    assert [s.stage.name for s in plan(compose([]), "prune")] == ["pretrain", "prune"]


def test_plain_form_holds_only_json_types() -> None:
    plain = to_plain(compose([]))
    assert plain["pruning"]["scheme"] == "gpw"
    assert type(plain["pruning"]["scheme"]) is str


@pytest.mark.parametrize(
    "overrides",
    [
        ["pruning=block", "pruning.sparsity=0.65", "pruning.scope=global"],
        ["data=digits", "train@pretrain.train=paper", "pretrain.train.milestones=[3,4]", "seed=7"],
        ["finetune.train.name='a b'", "data.root=null", "+experiment=paper_fusion"],
        ["sweep={until: prune}", "target=vta_pynq", "target.timing.bus_bits=128"],
    ],
)
def test_values_on_top_of_composed_groups_are_what_hydra_composes(overrides: list[str]) -> None:
    composed([*overrides, "seed=5"])  # the groups are shared with this one, the values are not
    shared = composed(overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="gpw"):
        assert shared == hydra.compose("config", overrides)
    assert list(OmegaConf.to_container(shared)) == list(OmegaConf.to_container(composed([])))
