"""A live table of the runs of a sweep that fits the terminal.

table = LiveTable(ids, print)
table(event)                        # from any thread
Live(table)                         # rich draws it four times a second
"""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from gpw_cli.cli.console import duration
from gpw_cli.sweep.events import Event, Kind

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

FRAME = 3  # lines besides the points: totals, column names, and the count of hidden points
WIDTHS = {"state": 7, "stage": 24, "accuracy": 8, "left": 9}


class RowState(IntEnum):
    """States in the order of the table."""

    running = 0
    failed = 1
    waiting = 2
    done = 3


@dataclass
class Row:
    """A point. Times: seconds of the table's clock; ``first``: epochs done before this run."""

    id: str
    state: RowState = RowState.waiting
    stage: str = ""
    detail: str = ""
    accuracy: float | None = None
    began: float = 0.0
    ended: float = 0.0
    stage_began: float = 0.0
    last: float = 0.0
    first: int | None = None
    step: int = 0
    total: int = 0

    def training_left(self, now: float) -> float | None:
        """Estimated seconds to the end of the stage, from its epochs so far."""
        if self.state is not RowState.running or self.first is None:
            return None
        pace = (self.last - self.stage_began) / (self.step - self.first)
        return max(0.0, pace * (self.total - self.step) - (now - self.last))

    def cells(self, now: float, room: int) -> tuple[str, ...]:
        """The cells of the row, the first at most ``room`` wide."""
        left = self.training_left(now)
        return (
            fitted(self.id, room),
            self.state.name,
            f"{self.stage} {self.detail}".strip() if self.state is RowState.running else "",
            "" if self.accuracy is None else f"{self.accuracy:.2f} %",
            "" if left is None else duration(left),
        )


class LiveTable:
    """A rich renderable that receives events; ``say`` prints a line above it."""

    def __init__(
        self,
        ids: Sequence[str],
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows = {id: Row(id) for id in ids}
        self.say, self.clock = say, clock
        self.stored = 0
        self._lock = threading.Lock()  # events come from several threads, rich draws in another

    def __call__(self, event: Event) -> None:
        """Update the table."""
        row = self.rows.get(event.point)
        if event.kind is Kind.message or row is None:
            self.say(f"{event.point}  {event.text}".lstrip())
            return
        with self._lock:
            failed_before = row.state is RowState.failed
            self._update(row, event, self.clock())
        if event.kind is Kind.failed and not failed_before:
            self.say(f"run {event.point} failed: {event.text}")

    def _update(self, row: Row, event: Event, now: float) -> None:
        if event.accuracy is not None:
            row.accuracy = event.accuracy
        if event.kind is Kind.stage:
            if row.state is not RowState.running:
                row.state, row.began = RowState.running, now
            row.stage, row.detail, row.stage_began, row.first = event.stage, "", now, None
            if event.stage == "finetune":  # that of the pruned weights says nothing any more
                row.accuracy = None
        elif event.kind is Kind.epoch:
            row.first = event.step - 1 if row.first is None else row.first
            row.step, row.total, row.last = event.step, event.total or 0, now
            row.detail = f"{event.step}/{event.total}"
        elif event.kind is Kind.progress:
            row.detail = f"{event.step:,}" + (f"/{event.total:,}" if event.total else "")
        elif event.kind in (Kind.stored, Kind.done, Kind.failed):
            self.stored += event.kind is Kind.stored
            row.state = RowState.failed if event.kind is Kind.failed else RowState.done
            row.ended = row.ended or now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        with self._lock:
            now = self.clock()
            rows = sorted(self.rows.values(), key=lambda row: row.state)
            shown = rows[: max(1, options.max_height - FRAME)]
            yield Text(self._totals(now), no_wrap=True, overflow="ellipsis", style="bold")
            yield self._table(shown, options.max_width, now)
            if left_out := rows[len(shown) :]:
                yield Text(f"and {_counts(left_out)}", no_wrap=True, overflow="ellipsis")

    def _table(self, rows: Sequence[Row], width: int, now: float) -> Table:
        from rich.table import Table

        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        room = max(10, width - sum(WIDTHS.values()) - len(WIDTHS) - 1)
        table.add_column("run", no_wrap=True, max_width=room)
        for name, columns in WIDTHS.items():
            justify = "right" if name in ("accuracy", "left") else "left"
            table.add_column(name, no_wrap=True, width=columns, justify=justify)  # type: ignore[arg-type]
        styles = {RowState.failed: "red", RowState.done: "green", RowState.running: "bold"}
        for row in rows:
            table.add_row(*row.cells(now, room), style=styles.get(row.state, "dim"))
        return table

    def _totals(self, now: float) -> str:
        plural = "s" * (len(self.rows) != 1)
        text = f"{len(self.rows)} run{plural}: {_counts(list(self.rows.values()))}"
        if self.stored:
            text += f" ({self.stored} from the store)"
        left = self._seconds_left(now)
        return text if left is None else f"{text}, about {duration(left)} left"

    def _seconds_left(self, now: float) -> float | None:
        """Remaining time, from the median time of a point and the number of running points."""
        rows = self.rows.values()
        took = [r.ended - r.began for r in rows if r.state is RowState.done and r.began]
        running = [row for row in rows if row.state is RowState.running]
        if not took or not running:
            return None
        each = statistics.median(took)
        waiting = sum(row.state is RowState.waiting for row in rows)
        to_do = waiting * each + sum(max(0.0, each - (now - row.began)) for row in running)
        return to_do / len(running)


def _counts(rows: Sequence[Row]) -> str:
    found = [(state, sum(row.state is state for row in rows)) for state in reversed(RowState)]
    return ", ".join(f"{count} {state.name}" for state, count in found if count)


def fitted(point: str, room: int) -> str:
    """``point`` in ``room`` characters: without the groups of its keys, or cut in the middle."""
    if len(point) <= room:
        return point
    short = re.sub(r"(^|,)[^,=]*\.(?=[^,=.]*=)", r"\1", point)
    if len(short) <= room:
        return short
    return f"{short[: (room - 1) // 2]}…{short[len(short) - room // 2 :]}"
