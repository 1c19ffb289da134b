"""The data sets by name. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from gpw_cli.errors import UsageError


@dataclass(frozen=True)
class DataInfo:
    """One line of ``gpw data ls``."""

    name: str
    pictures: str
    origin: str
    classes: int = 0  # 0: as many as the folder has


CATALOG = (
    DataInfo(
        "cifar10",
        "60,000 of 32x32 pixels, 10 classes",
        "`gpw data fetch cifar10`, or data.root=FOLDER that holds it",
        classes=10,
    ),
    DataInfo(
        "digits",
        "1,797 handwritten digits of 8x8 pixels, brought to the network's size",
        "embedded: lies inside scikit-learn",
        classes=10,
    ),
    DataInfo(
        "imagefolder",
        "your own: FOLDER/train/CLASS and FOLDER/val/CLASS",
        "data.root=FOLDER",
    ),
)


def describe() -> tuple[DataInfo, ...]:
    """All data sets, in the order to list them."""
    return CATALOG


def require_known(name: str) -> None:
    """Raises UsageError, with a suggestion, for a name that is not in the catalog."""
    names = [info.name for info in CATALOG]
    if name in names:
        return
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"data.name={name}: no such data set{hint} (known: {', '.join(names)})")
