"""Which families of NPUs there are, and the NPU that a configuration describes.

    npu_of(load_target("vta_pynq", VtaConfig)).tile      # (16, 16)

A family is a package beside this file with the modules ``config`` (its schema, a ``TargetConfig``)
and ``target`` (its ``Npu``), a line in ``FAMILIES``, and its options in ``conf/target``. Nothing
else names it. A package is imported when a configuration names it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from gpw_cli.errors import UsageError
from gpw_cli.targets.base import Npu, TargetConfig


@dataclass(frozen=True)
class Family:
    """``config``: the schema in the module ``config`` of ``package``; ``npu``: the function in its
    module ``target`` that makes the NPU of one.
    """

    package: str
    config: str
    npu: str


FAMILIES = {
    "eie": Family("gpw_cli.targets.eie", "EieConfig", "eie_of"),
    "vta": Family("gpw_cli.targets.vta", "VtaConfig", "vta_of"),
    "engine": Family("gpw_cli.targets.engine", "EngineConfig", "Engine"),
}


def config_class(family: str) -> type[TargetConfig]:
    """The schema of ``family``. Raises UsageError for one that is not there."""
    entry = _entry(family)
    found: type[TargetConfig] = getattr(_module(entry, "config"), entry.config)
    return found


def npu_of(target: TargetConfig) -> Npu:
    """The NPU that ``target`` describes.

    Raises UnsupportedError for a geometry that the NPU cannot have.
    """
    entry = _entry(target.family)
    npu: Npu = getattr(_module(entry, "target"), entry.npu)(target)
    return npu


def _entry(family: str) -> Family:
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UsageError(f"target.family={family}: expected one of {known}; choose target=NAME")
    return FAMILIES[family]


def _module(entry: Family, name: str) -> ModuleType:
    return importlib.import_module(f"{entry.package}.{name}")
