"""What happens to the points of a sweep, told the same way by every process that makes some.

    reporter = Reporter(print)              # the listener of one process
    reporter.take("sparsity=0.5")           # what it says from here on is about this point

An event is plain data: it crosses a pipe from a local process, and the wire from a Dask worker.
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

    stored = "stored"  # found complete before anything ran
    stage = "stage"  # a stage begins to run
    made = "made"  # a stage is complete, run or found
    epoch = "epoch"
    progress = "progress"  # of a download, a conversion, or the simulated images
    message = "message"
    done = "done"
    failed = "failed"


@dataclass(frozen=True)
class Event:
    """text: a line for people; step of total: epochs, images or bytes; accuracy: percent."""

    point: str  # id; empty: the sweep
    kind: Kind
    stage: str = ""
    text: str = ""
    step: int = 0
    total: int | None = None
    accuracy: float | None = None


Send = Callable[[Event], None]


class Reporter:
    """The listener of a process that makes points: all it hears is an event of the current one."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.point = ""
        self._next: dict[str, float] = {}

    def take(self, point: str) -> None:
        """What follows is about ``point``."""
        self.point = point

    def stage(self, stage: str, metrics: Mapping[str, Any] | None) -> None:
        """Tell that it begins, or is complete with its accuracy."""
        if metrics is None:
            self.send(Event(self.point, Kind.stage, stage))
        else:
            accuracy = metrics.get("test_accuracy")
            self.send(Event(self.point, Kind.made, stage, accuracy=accuracy))

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Tell the epoch."""
        text, accuracy = epoch_text(record, epochs), record.test_accuracy
        self.send(Event(self.point, Kind.epoch, stage, text, record.epoch, epochs, accuracy))

    def message(self, text: str) -> None:
        """Tell the line."""
        self.send(Event(self.point, Kind.message, text=text))

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Tell it now and then, and the end."""
        now = time.monotonic()
        if now < self._next.get(what, 0.0) and done != total:
            return
        self._next[what] = now + QUIET
        self.send(Event(self.point, Kind.progress, text=what, step=done, total=total))

    def done(self, accuracy: float | None) -> None:
        """The point is complete."""
        self.send(Event(self.point, Kind.done, accuracy=accuracy))

    def failed(self, error: str) -> None:
        """The point has failed."""
        self.send(Event(self.point, Kind.failed, text=error))
