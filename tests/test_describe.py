from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import yaml

from gpw_cli.config.compose import compose, to_plain
from gpw_cli.config.describe import allowed, comments, settings
from gpw_cli.config.schema import Scope


@dataclass(frozen=True)
class Base:
    """A base."""

    first: int = 0  # on the line


@dataclass(frozen=True)
class Sample(Base):
    """A group."""

    # above, over
    # two lines
    second: float = 1.0  # and behind
    third: list[int] = field(default_factory=list)


def test_comments_come_from_the_declaration() -> None:
    assert comments(Sample) == {
        "first": "on the line",
        "second": "above, over two lines and behind",
        "third": "",
    }


def test_allowed_values() -> None:
    assert allowed(Scope) == "layer, block, global, cycles"
    assert allowed(bool) == "true, false"
    assert allowed(str | None) == "text, null"
    assert allowed(list[int]) == "list of whole numbers"
    assert allowed(dict[str, int]) == "mapping"


def test_every_key_is_described_once() -> None:
    config = compose(["target=vta"])
    keys = [setting.key for setting in settings(config)]
    assert len(keys) == len(set(keys))
    assert {"pruning.scope", "target.timing.bus_bits", "quantizer.rounding"} <= set(keys)
    found = {setting.key: setting for setting in settings(config)}
    assert found["quantizer.bias_bits"].text.startswith("32: at the accumulator")
    assert "VTA" in found["target.timing.bus_bits"].group or found["target.timing.bus_bits"].group


def test_every_setting_has_a_meaning() -> None:
    assert [s.key for s in settings(compose(["target=vta"])) if not s.text] == []


@pytest.mark.parametrize(
    ("short", "keys"),
    [
        ("sparsity", ["pruning.sparsity"]),
        ("scheme", ["pruning.scheme"]),
        ("bits", ["quantizer.weight_bits", "quantizer.act_bits"]),
        ("train", ["pretrain.train.lr", "finetune.train.lr"]),
        ("experiment", ["sweep.grids"]),
    ],
)
def test_describe_takes_short_forms(gpw, short: str, keys: list[str]) -> None:
    lines = gpw("config", "--describe", short).out.splitlines()
    shown = [line.split(" = ")[0] for line in lines if " = " in line]
    assert set(keys) <= set(shown)
    assert "seed" not in shown


def test_gpw_config_is_yaml_with_comments(gpw, one_line) -> None:
    given = ["model.widths=[16,32,96]", "scope=cycles", "pruning.budget=1"]
    given.append("pruning.branches=[a.b,c]")
    shown = gpw("config", *given).out
    assert yaml.safe_load(shown) == to_plain(compose(given))
    (line,) = [text for text in shown.splitlines() if "scope:" in text]
    assert "# layer, block, global, cycles" in line
    described = gpw("config", "--describe", "pruning.scope").out
    assert "pruning.scope = layer    [layer, block, global, cycles]" in described
    assert "the groups are seed, model" in one_line(gpw("config", "--describe", "nothing"))


@pytest.mark.parametrize(
    ("wanted", "key"),
    [("budget", "pruning.budget"), ("observer", "quantizer.observer"), ("scope", "pruning.scope")],
)
def test_the_last_part_of_a_key_suffices(gpw, wanted: str, key: str) -> None:
    assert f"\n{key} = " in gpw("config", "--describe", wanted).out


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [("pruning.budgt", "pruning.budget "), ("trian", "train"), ("zzz", "groups are seed, model")],
)
def test_an_unknown_key_is_answered_with_what_was_meant(gpw, one_line, wanted, meant) -> None:
    assert meant in one_line(gpw("config", "--describe", wanted)) + " "
