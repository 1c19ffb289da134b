"""Overrides to a frozen ``Config`` through Hydra's Compose API (one call site, version_base 1.3).

    compose(["sparsity=0.7", "train=paper"]).finetune.train.epochs      # 200

Short forms, rewritten before Hydra sees them: ``sparsity=``, ``scope=``, ``criterion=`` and
``rounding=`` for ``pruning.*``, ``scheme=`` for the group ``pruning=``, ``bits=`` for weights and
activations, ``train=`` for both recipes, and ``pretrain.train=`` / ``finetune.train=`` for one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from gpw_cli.config import limits
from gpw_cli.config.composed import GROUPS, composed, is_value, keys
from gpw_cli.config.paths import options
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import TORCHVISION, cifar_depth

SHORT: Mapping[str, tuple[str, ...]] = {
    "sparsity": ("pruning.sparsity",),
    "scope": ("pruning.scope",),
    "criterion": ("pruning.criterion",),
    "rounding": ("pruning.rounding",),
    "scheme": ("pruning",),
    "bits": ("quantizer.weight_bits", "quantizer.act_bits"),
    "train": ("train@pretrain.train", "train@finetune.train"),
    "pretrain.train": ("train@pretrain.train",),
    "finetune.train": ("train@finetune.train",),
    "experiment": ("+experiment",),
}


def expanded(override: str) -> list[str]:
    """One override with its short form written out; others unchanged."""
    name, sign, value = override.partition("=")
    if name == "model" and value in TORCHVISION:  # one option file serves them all
        return ["model=torchvision", f"model.name={value}"]
    if name == "model" and cifar_depth(value) and value not in options("model"):
        return ["model=cifar_resnet", f"model.name={value}"]
    return [f"{full}={value}" for full in SHORT.get(name, (name,))] if sign else [override]


def settings(name: str) -> frozenset[str]:
    """The settings that an override of ``name`` makes, whatever form it is written in.

    The group ``pruning`` is its scheme: an option of it sets nothing else.
    """
    full = SHORT.get(name, (name,))
    return frozenset("pruning" if text == "pruning.scheme" else text for text in full)


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Config:
    """The configuration that ``overrides`` resolve to; UsageError names what is wrong with them.

    config_dir: a folder of the user's own options, searched before ``conf/``.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    full = [part for override in overrides for part in expanded(override)]
    for override in full:
        _check_form(override)
    if config_dir is not None:
        full.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    try:
        _check_keys(full)
        config = cast(Config, OmegaConf.to_object(composed(full)))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(_explain(error, full, config_dir)) from error
    return validate(config)


def validate(config: Config) -> Config:
    """Ranges that types cannot say; all violations in one message."""
    wrong = list(limits.problems(config))
    if wrong:
        raise UsageError("; ".join(wrong))
    return config


def to_plain(value: Any) -> Any:
    """Dataclasses, enums and lists as plain dicts, strings and lists: what JSON and keys hold."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return getattr(value, "value", value)


def _check_form(override: str) -> None:
    name, sign, value = override.partition("=")
    if not sign and not override.startswith("~"):
        raise UsageError(
            f"'{override}' is no override: write key=value; `gpw config` shows the keys"
        )
    name = name.lstrip("+~")
    if name.startswith("hydra"):
        raise UsageError(f"'{override}': hydra's own settings have no effect here")
    if name == "runtime.trackers" and value[:1] != "[":
        raise UsageError(f"'{override}': trackers are a list, runtime.trackers=[{value}]")
    if ("," in value and value[:1] not in "[{'\"") or value.startswith(("choice(", "range(")):
        raise UsageError(f"'{override}' has several values: use `gpw sweep {override}`")
    if name == "target.family":
        raise UsageError(f"'{override}': an NPU's family comes with its option, target=NAME")


def _check_keys(overrides: Sequence[str]) -> None:
    """Raises UsageError for a value of a key that the options in ``overrides`` do not have."""
    known = keys(overrides)
    for override in filter(is_value, overrides):
        name = override.partition("=")[0]
        if name not in known:
            close = difflib.get_close_matches(name, [*SHORT, *GROUPS, *known], 1, 0.5)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UsageError(
                f"unknown key '{name}' in '{override}'{hint} `gpw config` shows all keys"
            )


def _explain(error: Exception, overrides: Sequence[str], config_dir: Path | None) -> str:
    """The first lines of the error and its cause; for an unknown option the ones there are."""
    for override in overrides:
        group, _, value = override.partition("=")
        name = group.lstrip("+").split("@")[0]
        found = options(name, config_dir)
        if name in GROUPS and name != "runtime" and value not in found:
            also = TORCHVISION if name == "model" else ()
            close = difflib.get_close_matches(value, [*found, *also], 1, 0.4)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            more = " or a torchvision network" if also else ""
            return f"no {name} '{value}': expected one of {', '.join(found)}{more}{hint}"
    lines = [str(error).strip().splitlines()[0]]
    if (refused := getattr(error, "override", None)) is not None:  # a parser error names no key
        lines.insert(0, f"'{refused}'")
    if error.__cause__ is not None and str(error.__cause__).strip():
        lines.append(str(error.__cause__).strip().splitlines()[0])
    return ": ".join(dict.fromkeys(lines)) + " (`gpw config` shows the keys and their values)"
