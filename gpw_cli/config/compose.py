"""Compose overrides to a frozen ``Config`` with Hydra's Compose API.

    compose(["sparsity=0.7", "train=paper"]).finetune.train.epochs      # 200

Short forms are expanded before Hydra reads them: ``sparsity=``, ``scope=``, ``criterion=`` and
``rounding=`` for ``pruning.*``, ``scheme=`` for the group ``pruning=``, ``bits=`` for weights and
activations, ``train=`` for both recipes, ``pretrain.train=`` and ``finetune.train=`` for one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

from gpw_cli.config import limits
from gpw_cli.config.composed import composed
from gpw_cli.config.explain import (
    check_form,
    check_keys,
    explained,
    in_yaml,
    searchpath,
    unconvertible,
)
from gpw_cli.config.paths import options, plugged
from gpw_cli.config.schema import Config
from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import TORCHVISION, cifar_depth
from gpw_cli.models.onnx_file import is_onnx
from gpw_cli.models.own import HOW, is_own

# Errors of Hydra and OmegaConf for invalid values, besides their own error types.
LET_THROUGH = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)

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


# the option of a plug-in by group; a target family has its own option (composed.py)
PLUGGED: Mapping[str, tuple[str, ...]] = {
    "model": ("model=own", "model.name="),
    "data": ("data.name=",),
    "pruning": ("pruning.scheme=",),
}


def expanded(override: str, config_dir: Path | None = None) -> list[str]:
    """``override`` with an expanded short form."""
    name, sign, value = override.partition("=")
    if name == "model" and value.strip("'\"").endswith(".py"):
        raise UsageError(f"{override}: which class or function of the file? {HOW}")
    if name == "model" and (is_own(value) or is_onnx(value)):
        quoted = value.strip("'\"").replace("\\", "\\\\").replace("'", "\\'")
        return ["model=own", f"model.name='{quoted}'"]
    if name == "model" and value in TORCHVISION:  # all have the same option file
        return ["model=torchvision", f"model.name={value}"]
    if name == "model" and cifar_depth(value) and value not in options("model"):
        return ["model=cifar_resnet", f"model.name={value}"]
    group = "pruning" if name == "scheme" else name
    if group in PLUGGED and plugged(group, value, config_dir):
        return [text + value if text[-1] == "=" else text for text in PLUGGED[group]]
    return [f"{full}={value}" for full in SHORT.get(name, (name,))] if sign else [override]


def settings(name: str) -> frozenset[str]:
    """The settings that an override of ``name`` sets, for any form of the name.

    An option of the group ``pruning`` sets the scheme and nothing else.
    """
    full = SHORT.get(name, (name,))
    return frozenset("pruning" if text == "pruning.scheme" else text for text in full)


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Config:
    """The configuration of ``overrides``; UsageError if they are invalid.

    config_dir: a folder with options of the user, searched before ``conf/``.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    full = [part for override in overrides for part in expanded(override, config_dir)]
    for override in full:
        check_form(override)
    if config_dir is not None:
        full.append(searchpath(config_dir))
    try:
        check_keys(full, tuple(SHORT))
        config = cast(Config, OmegaConf.to_object(composed(full)))
    except UsageError as error:  # for the name of a plug-in; OmegaConf adds lines
        raise type(error)(str(error).splitlines()[0]) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explained(error, full, config_dir)) from error
    except YAMLError as error:
        raise UsageError(f"--config-dir {config_dir}: {in_yaml(error)}") from error
    except LET_THROUGH as error:
        raise UsageError(unconvertible(error, overrides)) from error
    return validate(config, {override.partition("=")[0] for override in full})


def validate(config: Config, given: Collection[str] = ()) -> Config:
    """Check ranges and combinations; UsageError lists all violations.

    given: the keys that were overridden, which tell a chosen value from an equal default.
    """
    wrong = list(limits.problems(config, given))
    if wrong:
        raise UsageError("; ".join(wrong))
    return config


def to_plain(value: Any) -> Any:
    """Dataclasses, enums and lists as plain dicts, strings and lists, for JSON and keys."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return getattr(value, "value", value)
