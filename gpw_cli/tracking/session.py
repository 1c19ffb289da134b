"""The trackers of a process and of a stage. A tracker that fails does not stop the work.

    trackers = Trackers([TrackerName.tensorboard], Destination(Path(".gpw")), warn=print)
    with trackers.stage(StageRun("finetune", key)) as session:
        session.epoch(record)                  # an EpochRecord of gpw_cli/training/loop.py
        session.finish({"test_accuracy": 91.8})

A tracker that raises is reported in one line and not used again in this process, so a server that
is down costs one timeout and not one per epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gpw_cli.tracking.registry import open_tracker

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from gpw_cli.tracking.base import Destination, Ending, StageRun, Tracker
    from gpw_cli.tracking.registry import TrackerName


class Trackers:
    """The trackers of one process; ``names``: those that have not failed."""

    def __init__(
        self, names: Iterable[TrackerName], destination: Destination, warn: Callable[[str], None]
    ) -> None:
        self.names, self.destination, self.warn = list(dict.fromkeys(names)), destination, warn

    @contextmanager
    def stage(self, run: StageRun) -> Iterator[Session]:
        """The run of a stage, opened in every tracker that has not failed."""
        session = Session(self, run)
        try:
            yield session
        except Exception:
            session.close("failed")
            raise
        except BaseException:  # Ctrl-C
            session.close("killed")
            raise
        session.close("finished")

    def drop(self, name: TrackerName, error: Exception) -> None:
        """Report a failed tracker and stop using it."""
        self.names.remove(name)
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.warn(f"{name.value} failed and is not used again in this process: {text[:200]}")


class Session:
    """One stage's run in every tracker."""

    def __init__(self, trackers: Trackers, run: StageRun) -> None:
        self._trackers = trackers
        self._given = {name.rpartition(".")[2] for name in run.parameters}
        self._open: dict[TrackerName, Tracker] = {}
        for name in list(trackers.names):
            try:
                self._open[name] = open_tracker(name, run, trackers.destination)
            except Exception as error:
                trackers.drop(name, error)

    def epoch(self, record: DataclassInstance) -> None:
        """Log the record of an epoch as ``epoch/loss`` and so on, unless it was logged before.

        record: a field ``epoch`` and numbers, None for those not measured.
        """
        row = asdict(record)
        step = row.pop("epoch")
        values = {f"epoch/{name}": value for name, value in row.items() if value is not None}
        self._each(lambda tracker: tracker.log(step, values))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Log the numbers that the stage measured, without those that repeat a parameter."""
        numbers = {
            name: value
            for name, value in flat(metrics)
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and name not in self._given
        }
        self._each(lambda tracker: tracker.finish(numbers))

    def close(self, state: Ending) -> None:
        """End the run in every tracker."""
        self._each(lambda tracker: tracker.close(state))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._open[name]
                self._trackers.drop(name, error)
                with suppress(Exception):  # try to release its resources
                    tracker.close("failed")


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of ``tree`` by dotted name, such as ``train.lr``."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
