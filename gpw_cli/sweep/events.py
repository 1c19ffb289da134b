"""Events of a sweep, in the same form from all processes.

    reporter = Reporter(print)              # the listener of one process
    reporter.take("sparsity=0.5")           # the following events are about this point

Events are plain data, sent through a pipe by local processes and over the network by Dask workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gpw_cli.stages.services import epoch_text

if TYPE_CHECKING:
    from gpw_cli.training.loop import EpochRecord

QUIET = 0.5  # seconds between two progress events of one download or simulation


class Kind(StrEnum):
    """What an event says about its point."""

    stored = "stored"  # found complete at the start
    stage = "stage"  # a stage starts
    made = "made"  # a stage is complete, run or found in the store
    epoch = "epoch"
    progress = "progress"  # of a download, a conversion or a simulation
    message = "message"
    done = "done"
    failed = "failed"


@dataclass(frozen=True)
class Event:
    """text: a line to print; step, total: epochs, images or bytes; accuracy: percent."""

    point: str  # id; empty: the sweep
    kind: Kind
    stage: str = ""
    text: str = ""
    step: int = 0
    total: int | None = None
    accuracy: float | None = None


Send = Callable[[Event], None]


class Reporter:
    """A stage listener that sends everything as events of the current point."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.point = ""
        self._next: dict[str, float] = {}

    def take(self, point: str) -> None:
        """Make ``point`` the current point."""
        self.point = point

    def stage(self, stage: str, metrics: Mapping[str, Any] | None, what: str = "") -> None:
        """Send that a stage starts (None), or is complete."""
        if metrics is None:
            self.send(Event(self.point, Kind.stage, stage, what))
        else:
            accuracy = metrics.get("test_accuracy")
            self.send(Event(self.point, Kind.made, stage, accuracy=accuracy))

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Send the record of an epoch."""
        text, accuracy = epoch_text(record, epochs), record.test_accuracy
        self.send(Event(self.point, Kind.epoch, stage, text, record.epoch, epochs, accuracy))

    def message(self, text: str) -> None:
        """Send a line to print."""
        self.send(Event(self.point, Kind.message, text=text))

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Send progress at most every ``QUIET`` seconds, and its end; what begins as a message."""
        if not done and total is None:
            self.message(what)
            return
        now = time.monotonic()
        if now < self._next.get(what, 0.0) and done != total:
            return
        self._next[what] = now + QUIET
        self.send(Event(self.point, Kind.progress, text=what, step=done, total=total))

    def done(self, accuracy: float | None) -> None:
        """Send that the point is complete."""
        self.send(Event(self.point, Kind.done, accuracy=accuracy))

    def failed(self, error: str) -> None:
        """Send that the point has failed."""
        self.send(Event(self.point, Kind.failed, text=error))
