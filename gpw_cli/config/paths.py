"""The folder ``conf/``: inside the package in an installed wheel, beside it in a checkout.

``options``: the names of its files; ``offered``: these and the plug-ins of a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpw_cli.plugins import Plugin, find, plugins

PACKAGE = Path(__file__).resolve().parent.parent
# group -> kind of its plug-ins
PLUGGED: Mapping[str, str] = {
    "model": "network",
    "data": "data set",
    "pruning": "scheme",
    "target": "target family",
}

# option files that other names stand for: a file, a network of torchvision, a CIFAR ResNet
MODEL_KINDS = frozenset({"own", "torchvision", "cifar_resnet"})


def conf_dir() -> Path:
    """Absolute path of the configuration tree."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def options(group: str, config_dir: Path | None = None) -> list[str]:
    """Names that ``group=NAME`` accepts, sorted; config_dir: a folder of the user."""
    folders = [conf_dir(), *([config_dir] if config_dir is not None else [])]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def offered(group: str, config_dir: Path | None = None) -> list[str]:
    """``options`` and the names of plug-ins, whose metadata is read."""
    added = plugins(PLUGGED[group]) if group in PLUGGED else ()
    return sorted({*options(group, config_dir), *(plugin.name for plugin in added)})


def plugged(group: str, name: str, config_dir: Path | None = None) -> Plugin | None:
    """The plug-in that ``group=name`` names; None if it is an option or unknown."""
    if group not in PLUGGED or not name or name in options(group, config_dir):
        return None
    return find(PLUGGED[group], name)
