"""The configured trackers of a process, and of one stage: none of them can stop the work.

    trackers = Trackers([TrackerName.tensorboard], Place(Path(".gpw")), warn=print)
    with trackers.stage(StageRun("finetune", key)) as session:
        session.epoch(record)                  # an EpochRecord of gpw_cli/training/loop.py
        session.finish({"test_accuracy": 91.8})

A tracker that raises is named in one line and left alone for the rest of the process: a server
that is down costs its timeouts in one stage, not in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gpw_cli.tracking.registry import open_tracker

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from gpw_cli.tracking.base import Place, StageRun, State, Tracker
    from gpw_cli.tracking.registry import TrackerName


class Trackers:
    """Those of one process; ``names`` shrinks when one fails."""

    def __init__(
        self, names: Iterable[TrackerName], place: Place, warn: Callable[[str], None]
    ) -> None:
        self.names, self.place, self.warn = list(dict.fromkeys(names)), place, warn

    @contextmanager
    def stage(self, run: StageRun) -> Iterator[Session]:
        """The stage's run, open in every tracker that still works."""
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
        """Say it once, and never ask this tracker again."""
        self.names.remove(name)
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        self.warn(f"{name.value} failed and gets nothing more; the work goes on: {text[:200]}")


class Session:
    """One stage's run in every tracker."""

    def __init__(self, trackers: Trackers, run: StageRun) -> None:
        self._trackers = trackers
        self._given = {name.rpartition(".")[2] for name in run.parameters}
        self._open: dict[TrackerName, Tracker] = {}
        for name in list(trackers.names):
            try:
                self._open[name] = open_tracker(name, run, trackers.place)
            except Exception as error:
                trackers.drop(name, error)

    def epoch(self, record: DataclassInstance) -> None:
        """One epoch's row, ``epoch/loss`` and so on; nothing where it was logged before.

        record: its field ``epoch`` and numbers, None for what was not measured.
        """
        row = asdict(record)
        step = row.pop("epoch")
        values = {f"epoch/{name}": value for name, value in row.items() if value is not None}
        self._each(lambda tracker: tracker.log(step, values))

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """The numbers that the stage measured; those that repeat a parameter are no result."""
        numbers = {
            name: value
            for name, value in flat(metrics)
            if isinstance(value, int | float)
            and not isinstance(value, bool)
            and name not in self._given
        }
        self._each(lambda tracker: tracker.finish(numbers))

    def close(self, state: State) -> None:
        """End the run everywhere."""
        self._each(lambda tracker: tracker.close(state))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except Exception as error:
                del self._open[name]
                self._trackers.drop(name, error)
                with suppress(Exception):  # what it holds open is worth a try
                    tracker.close("failed")


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested names written with dots: ``train.lr``."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
