"""One-line errors for bad overrides, found before Hydra reads them or from its errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from gpw_cli.config.composed import GROUPS, is_value, keys
from gpw_cli.config.paths import MODEL_KINDS, offered
from gpw_cli.errors import UsageError
from gpw_cli.models.inputs import TORCHVISION

_OPTION = re.compile(r"[\w./ +-]*")  # the names of option files without .yaml
_RANGE = re.compile(r"[\d.eE+-]+:[\d.eE+-]+(:[\d.eE+-]+)?")  # config/grid.py reads it
SHOWN = 200  # characters of the input in messages


def check_form(override: str) -> None:
    """Raise UsageError unless ``override`` is ``key=value`` and has an effect."""
    name, sign, value = override.partition("=")
    if override[:1] in ("+", "~") and name != "+experiment":
        raise UsageError(
            f"'{override}': keys cannot be added or removed; write key=value "
            "(`gpw config` shows the keys)"
        )
    if not sign:
        raise UsageError(
            f"'{override}' is no override: write key=value; `gpw config` shows the keys"
        )
    name = name.removeprefix("+")
    if name.startswith("hydra"):
        raise UsageError(f"'{override}': hydra's own settings have no effect here")
    if name == "runtime.trackers" and value[:1] != "[":
        raise UsageError(f"'{override}': trackers are a list, runtime.trackers=[{value}]")
    listed = "," in value and value[:1] not in "[{'\""
    if listed or value.startswith(("choice(", "range(")) or _RANGE.fullmatch(value):
        raise UsageError(f"'{override}' has several values: use `gpw sweep {override}`")
    group = name.split("@")[0]
    if group in GROUPS and group != "runtime" and not _OPTION.fullmatch(value):
        raise UsageError(_no_option(group, value, offered(group)))
    if name == "target.family":
        raise UsageError(f"'{override}': an NPU's family comes with its option, target=NAME")


def check_keys(overrides: Sequence[str], short: Sequence[str]) -> None:
    """Raise UsageError for keys that do not exist under the options in ``overrides``.

    short: the names of short forms, for suggestions.
    """
    known = keys(overrides)
    for override in filter(is_value, overrides):
        name = override.partition("=")[0]
        if name not in known:
            close = difflib.get_close_matches(name[:SHOWN], [*short, *GROUPS, *known], 1, 0.5)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise UsageError(
                f"unknown key '{name}' in '{override}'{hint}; `gpw config` shows all keys"
            )


def searchpath(config_dir: Path) -> str:
    """The Hydra override for a folder of the user's options; UsageError if it is no folder."""
    if not config_dir.is_dir():
        raise UsageError(
            f"--config-dir {config_dir}: no such folder; it holds options of your own, such as "
            "train/mine.yaml"
        )
    quoted = str(config_dir.resolve()).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


def explained(error: Exception, overrides: Sequence[str], config_dir: Path | None) -> str:
    """The first lines of the error and its cause; for an unknown option, the known ones."""
    for override in overrides:
        group, _, value = override.partition("=")
        name = group.lstrip("+").split("@")[0]
        if name in GROUPS and name != "runtime" and value not in offered(name, config_dir):
            return _no_option(name, value, offered(name, config_dir))
    if type(error).__name__ == "MissingMandatoryValue":
        key = getattr(error, "full_key", None)
        return (
            f"no value for {key}: give one, {key}=VALUE, or begin the file of the option with "
            "`defaults: [NAME, _self_]`, where NAME is an option that has all values"
        )
    lines = [_first_line(error)]
    if (
        refused := getattr(error, "override", None)
    ) is not None:  # an error of the parser names no key
        lines.insert(0, f"'{refused}'")
    elif (key := getattr(error, "full_key", None)) and key not in lines[0]:
        lines.insert(0, str(key))
    if error.__cause__ is not None and str(error.__cause__).strip():
        lines.append(_first_line(error.__cause__))
    return ": ".join(dict.fromkeys(lines)) + " (`gpw config` shows the keys and their values)"


def _first_line(error: BaseException) -> str:
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return f"{first} {others[0]}" if first.endswith(":") and others else first


def _no_option(group: str, value: str, found: Sequence[str]) -> str:
    also = TORCHVISION if group == "model" else ()
    close = difflib.get_close_matches(value[:SHOWN], [*found, *also], 1, 0.4)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    more = ", a torchvision network, FILE.py:NAME or FILE.onnx" if also else ""
    known = [name for name in found if not (group == "model" and name in MODEL_KINDS)]
    return f"no {group} '{value}': expected one of {', '.join(known)}{more}{hint}"


def in_yaml(error: Exception) -> str:
    """The position and reason of an error in a YAML file."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = f"{mark.name}, line {mark.line + 1}: " if mark is not None else ""
    return where + (problem or _first_line(error))


def unconvertible(error: Exception, overrides: Sequence[str]) -> str:
    """The message for numbers too long to convert and for too deep nesting."""
    shown = " ".join(str(error).split())[:SHOWN] or type(error).__name__
    return f"{' '.join(overrides)[:SHOWN]}: {shown} (`gpw config` shows the keys and their values)"
