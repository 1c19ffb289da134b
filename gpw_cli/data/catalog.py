"""The data sets by name, ours and those of plug-ins. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.errors import UsageError
from gpw_cli.plugins import Plugin, find, plugins

if TYPE_CHECKING:
    from gpw_cli.data.pictures import Pictures


@dataclass(frozen=True)
class DataInfo:
    """One line of ``gpw data ls``. ``shape``: (channels, pixels) where nothing else says it."""

    name: str
    pictures: str
    origin: str
    shape: tuple[int, int]
    classes: int = 0  # 0: as many as the folder has


@dataclass(frozen=True)
class DataSet:
    """What the entry point of a plug-in names (docs/plugins.md).

    ``load``: (root, size, channels) -> the pictures, uint8 [N, size, size, channels]; root is
    data.root. ``classes``: how many. ``channels`` and ``size`` in pixels: for a network that does
    not say what it takes. ``pictures``: a few words for ``gpw data ls``.
    """

    load: Callable[[Path | None, int, int], Pictures]
    classes: int
    channels: int = 3
    size: int = 32
    pictures: str = ""


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
    """All data sets of gpw, in the order to list them."""
    return CATALOG


def plugged(name: str) -> DataSet | None:
    """The data set of a plug-in; None for one of ours. Raises UsageError for an unknown name."""
    plugin = require_known(name)
    return None if plugin is None else plugin.load_as(DataSet)


def class_count(name: str) -> int:
    """How many classes the data set has; 0: as many as its folder."""
    own = next((info.classes for info in CATALOG if info.name == name), None)
    if own is None and (found := plugged(name)) is not None:
        own = found.classes
    return own or 0


def native_shape(name: str) -> tuple[int, int]:
    """(channels, pixels) of its pictures, for a network that does not say what it takes."""
    own = next((info.shape for info in CATALOG if info.name == name), None)
    if own is None and (found := plugged(name)) is not None:
        own = found.channels, found.size
    assert own is not None
    return own


def require_known(name: str) -> Plugin | None:
    """The plug-in that brings ``name``; None: it is ours.

    Raises UsageError, with a suggestion, for a name that nobody brings.
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
