"""The trackers and the packages that they need. Imports none of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gpw_cli.tracking.base import is_address

if TYPE_CHECKING:
    from gpw_cli.tracking.base import Destination, StageRun, Tracker


class TrackerName(StrEnum):
    """Experiment trackers; each is an optional extra."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"


@dataclass(frozen=True)
class TrackerModule:
    """``module``: has ``open_run``; ``package``: what it imports; ``extra``: installs that."""

    module: str
    package: str
    extra: str


TRACKERS = {
    TrackerName.tensorboard: TrackerModule(
        "gpw_cli.tracking.tensorboard", "tensorboard", "tensorboard"
    ),
    TrackerName.mlflow: TrackerModule("gpw_cli.tracking.mlflow", "mlflow", "mlflow"),
}


def open_tracker(name: TrackerName, run: StageRun, destination: Destination) -> Tracker:
    """The run of ``run.key``, new or continued. May raise any error of the tracker."""
    tracker: Tracker = importlib.import_module(TRACKERS[name].module).open_run(run, destination)
    return tracker


def problems(trackers: Collection[TrackerName], tracking: str | None) -> Iterator[str]:
    """Errors in ``runtime.trackers`` and ``runtime.tracking``, a line each."""
    yield from map(_missing, _absent(trackers))
    alone = bool(trackers) and TrackerName.mlflow not in trackers
    if alone and is_address(tracking):
        yield (
            f"runtime.tracking={tracking} is an address and only mlflow takes one: "
            "add mlflow to runtime.trackers, or name a folder"
        )


def _absent(names: Iterable[TrackerName]) -> list[TrackerName]:
    return [n for n in dict.fromkeys(names) if not importlib.util.find_spec(TRACKERS[n].package)]


def _missing(name: TrackerName) -> str:
    entry = TRACKERS[name]
    return (
        f"runtime.trackers={name.value}: {entry.package} is not installed: "
        f"pip install 'gpw[{entry.extra}]'"
    )
