"""Which families of NPUs there are, and the NPU that a configuration describes.

    npu_of(load_target("vta_pynq", VtaConfig)).tile      # (16, 16)

A family is a package beside this file with the modules ``config`` (its schema, a ``TargetConfig``)
and ``target`` (its ``Npu``), a line in ``FAMILIES``, and its options in ``conf/target``. Nothing
else names it. A package is imported when a configuration names it. Plug-ins bring families of their
own (docs/plugins.md).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from gpw_cli.errors import UsageError
from gpw_cli.plugins import find, plugins
from gpw_cli.targets.base import Npu, TargetConfig


@dataclass(frozen=True)
class Family:
    """What a line of the table, or the entry point of a plug-in, says.

    ``config``: the schema in the module ``config`` of ``package``; ``npu``: the function in its
    module ``target`` that makes the NPU of one.
    """

    package: str
    config: str
    npu: str


KIND = "target family"  # of plug-ins
FAMILIES = {
    "eie": Family("gpw_cli.targets.eie", "EieConfig", "eie_of"),
    "vta": Family("gpw_cli.targets.vta", "VtaConfig", "vta_of"),
    "engine": Family("gpw_cli.targets.engine", "EngineConfig", "Engine"),
}


def config_class(family: str) -> type[TargetConfig]:
    """The schema of ``family``. Raises UsageError for one that is not there."""
    found: type[TargetConfig] = _attribute(family, "config", _entry(family).config)
    return found


def npu_of(target: TargetConfig) -> Npu:
    """The NPU that ``target`` describes.

    Raises UnsupportedError for a geometry that the NPU cannot have.
    """
    npu: Npu = _attribute(target.family, "target", _entry(target.family).npu)(target)
    return npu


def family_origin(family: str) -> str:
    """The package of a plug-in, with its version; empty for a family of the table."""
    plugin = None if family in FAMILIES else find(KIND, family)
    return "" if plugin is None else plugin.origin


def _entry(family: str) -> Family:
    if family in FAMILIES:
        return FAMILIES[family]
    if (plugin := find(KIND, family)) is not None:
        return plugin.load_as(Family)
    known = ", ".join([*FAMILIES, *(plugin.name for plugin in plugins(KIND))])
    raise UsageError(f"target.family={family}: expected one of {known}; choose target=NAME")


def _attribute(family: str, module: str, name: str) -> Any:
    package = _entry(family).package
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), name)
    except Exception as error:
        if family in FAMILIES:
            raise
        raise UsageError(
            f"{find(KIND, family)}: {package}.{module}.{name} cannot be loaded: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
