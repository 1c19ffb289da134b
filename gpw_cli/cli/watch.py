"""Progress of ``gpw sweep``: a live table on a terminal, else a line per event.

with watched(sweep, several=True) as send:
    run_sweep(sweep, send, processes(2))
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpw_cli.cli.console import Lines, Timed, say
from gpw_cli.sweep.events import Event, Kind, Send

if TYPE_CHECKING:
    from gpw_cli.sweep.plan import PlannedSweep


@contextmanager
def watched(sweep: PlannedSweep, *, several: bool) -> Iterator[Send]:
    """The receiver of the events of ``sweep``; several: more than one process runs points."""
    ids = [point.id for point in sweep.points]
    if not sys.stderr.isatty():
        yield Log(len(ids), several=several)
        return
    from rich.console import Console
    from rich.live import Live

    from gpw_cli.cli.live_table import LiveTable

    console = Console(stderr=True)
    table = LiveTable(ids, lambda text: console.print(text, markup=False, highlight=False))
    with Live(table, console=console, refresh_per_second=4, transient=True):
        yield table


class Log:
    """One line per event, prefixed with its point if several points run at once."""

    def __init__(self, count: int, *, several: bool, timed: Timed | None = None) -> None:
        self.count, self.several = count, several
        self._timed = timed or Timed()
        self._ended: set[str] = set()
        self._begun: set[str] = set()
        self._found: dict[str, dict[str, None]] = {}  # point -> stages from the store, untold
        self._transfers: dict[str, Lines] = {}
        self._lock = threading.Lock()  # events come from several threads

    def __call__(self, event: Event) -> None:
        """Print ``event``, unless it says nothing new."""
        with self._lock:
            if event.kind is Kind.progress:
                lines = self._transfers.setdefault(event.point, Lines())
                lines.progress(self._who(event) + event.text, event.step, event.total)
            for line in self._news(event):
                say(line)

    def _who(self, event: Event) -> str:
        return f"{event.point}  " if self.several and event.point else ""

    def _begins(self, event: Event) -> Iterator[str]:
        found = self._found.pop(event.point, {})
        stored = f"{', '.join(found)} from the store" if found else ""
        if event.point not in self._begun:
            self._begun.add(event.point)
            yield _run(event) + (f"  ({stored})" if stored else "")
        elif stored:
            yield self._who(event) + stored
        name = f"{event.point} {event.stage}"
        for line in self._timed.begins(name, event.stage, event.text):
            yield self._who(event) + line

    def _news(self, event: Event) -> Iterator[str]:
        if event.kind is Kind.stage:
            yield from self._begins(event)
        elif event.kind is Kind.made:
            ended = self._timed.ends(f"{event.point} {event.stage}")
            if ended is None:
                self._found.setdefault(event.point, {})[event.stage] = None  # by each of its tasks
            else:
                accuracy = "" if event.accuracy is None else f", {event.accuracy:.2f} %"
                yield f"{self._who(event)}{event.stage}  {ended}{accuracy}"
        elif event.kind is Kind.epoch:
            yield f"{self._who(event)}{event.stage}  {event.text}"
        elif event.kind is Kind.message:
            yield self._who(event) + event.text
        elif event.kind is not Kind.progress and event.point not in self._ended:
            self._ended.add(event.point)  # several processes may report the same end
            if event.kind is not Kind.stored:
                what = "done" if event.kind is Kind.done else f"failed: {event.text}"
                yield f"{_run(event)} {what}  ({len(self._ended)} of {self.count})"


def _run(event: Event) -> str:
    """``run scheme=gpw,sparsity=0.5``; ``run`` for the run of a sweep without axes."""
    return "run" if event.point == "run" else f"run {event.point}"
