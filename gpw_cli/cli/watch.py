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

from gpw_cli.cli.console import Lines, say
from gpw_cli.sweep.events import Event, Kind, Send

if TYPE_CHECKING:
    from gpw_cli.sweep.plan import Sweep


@contextmanager
def watched(sweep: Sweep, *, several: bool) -> Iterator[Send]:
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

    def __init__(self, count: int, *, several: bool) -> None:
        self.count, self.several = count, several
        self._ended: set[str] = set()
        self._begun: dict[str, set[str]] = {}  # point -> its running stages
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

    def _news(self, event: Event) -> Iterator[str]:
        if event.kind is Kind.stage:
            if event.point not in self._begun:
                yield f"run {event.point}"
            self._begun.setdefault(event.point, set()).add(event.stage)
        elif event.kind is Kind.made:
            running = self._begun.get(event.point, set())
            if event.stage in running and event.accuracy is not None:
                yield f"{self._who(event)}{event.stage}  {event.accuracy:.2f} %"
            running.discard(event.stage)
        elif event.kind is Kind.epoch:
            yield f"{self._who(event)}{event.stage}  {event.text}"
        elif event.kind is Kind.message:
            yield self._who(event) + event.text
        elif event.kind is not Kind.progress and event.point not in self._ended:
            self._ended.add(event.point)  # several processes may report the same end
            if event.kind is not Kind.stored:
                what = "done" if event.kind is Kind.done else f"failed: {event.text}"
                yield f"run {event.point} {what}  ({len(self._ended)} of {self.count})"
