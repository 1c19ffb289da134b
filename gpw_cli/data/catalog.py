"""Data sets by name, including those of plug-ins. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.errors import UsageError
from gpw_cli.plugins import Plugin, find, plugins

if TYPE_CHECKING:
    from gpw_cli.data.images import Images


@dataclass(frozen=True)
class DataInfo:
    """One line of ``gpw data ls``. ``shape``: default (channels, pixels)."""

    name: str
    description: str
    origin: str
    shape: tuple[int, int]
    classes: int = 0  # 0: those of the folder


@dataclass(frozen=True)
class DataSet:
    """A data set of a plug-in, named by its entry point (docs/plugins.md).

    ``load``: (root, size, channels) -> the images, uint8 [N, size, size, channels]; root is
    data.root. ``classes``: their number. ``channels`` and ``size`` in pixels: for networks
    without a fixed input. ``description``: a short description for ``gpw data ls``.
    """

    load: Callable[[Path | None, int, int], Images]
    classes: int
    channels: int = 3
    size: int = 32
    description: str = ""


KIND = "data set"  # of plug-ins
CATALOG = (
    DataInfo(
        "cifar10",
        "60,000 of 32x32 pixels, 10 classes",
        "`gpw data fetch cifar10`, or data.root=FOLDER that holds it",
        (3, 32),
        classes=10,
    ),
    DataInfo(
        "digits",
        "1,797 handwritten digits of 8x8 pixels, brought to the network's size",
        "embedded: lies inside scikit-learn",
        (1, 16),
        classes=10,
    ),
    DataInfo(
        "imagefolder",
        "your own: FOLDER/train/CLASS and FOLDER/val/CLASS",
        "data.root=FOLDER",
        (3, 224),
    ),
)


def describe() -> tuple[DataInfo, ...]:
    """All built-in data sets, in the order of ``gpw data ls``."""
    return CATALOG


def plugged(name: str) -> DataSet | None:
    """The data set of a plug-in; None for a built-in one. UsageError for an unknown name."""
    plugin = require_known(name)
    return None if plugin is None else plugin.load_as(DataSet)


def class_count(name: str) -> int:
    """The number of classes; 0: as many as the folder has."""
    own = next((info.classes for info in CATALOG if info.name == name), None)
    if own is None and (found := plugged(name)) is not None:
        own = found.classes
    return own or 0


def native_shape(name: str) -> tuple[int, int]:
    """(channels, pixels) of the images, for networks without a fixed input."""
    own = next((info.shape for info in CATALOG if info.name == name), None)
    if own is None and (found := plugged(name)) is not None:
        own = found.channels, found.size
    assert own is not None
    return own


def require_known(name: str) -> Plugin | None:
    """The plug-in of data set ``name``; None for a built-in one.

    Raises UsageError, with a suggestion, for an unknown name.
    """
    names = [info.name for info in CATALOG]
    if name in names:
        return None
    if (plugin := find(KIND, name)) is not None:
        return plugin
    names += [plugin.name for plugin in plugins(KIND)]
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"data.name={name}: no such data set{hint} (known: {', '.join(names)})")
