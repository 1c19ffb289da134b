"""Console output: progress on stderr, as bars on a terminal and as lines elsewhere; results on
stdout.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.progress import Progress, TaskID

    from gpw_cli.stages.services import Listener
    from gpw_cli.training.loop import EpochRecord


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def emit(value: Any) -> None:
    """Print a result as JSON on stdout."""
    print(json.dumps(value, indent=1, allow_nan=False))


def fact(name: str, value: float | str) -> str:
    """``min gemm distance 4``: a number or remark of a target with its name."""
    shown = value if isinstance(value, str) else f"{value:,}"
    return f"{name.replace('_', ' ')} {shown}"


def listener() -> Listener:
    """Bars when stderr is a terminal, lines otherwise."""
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    """For logs: a line per epoch and message, and every few seconds of a download."""

    def __init__(self) -> None:
        self._next = 0.0
        self._finished: set[str] = set()  # downloads may report their end more than once
        self._begun: set[str] = set()

    def stage(self, stage: str, metrics: Mapping[str, Any] | None) -> None:
        """Report that a stage was found in the store, or is done."""
        if metrics is None:
            self._begun.add(stage)
        else:
            say(f"{stage}  {'done' if stage in self._begun else 'from the store'}")

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Print the epoch."""
        from gpw_cli.stages.services import epoch_text

        say(f"{stage}  {epoch_text(record, epochs)}")

    def message(self, text: str) -> None:
        """Print the line."""
        say(text)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Print at most one line every five seconds, and the last one."""
        if (time.monotonic() < self._next and done != total) or what in self._finished:
            return
        if done == total:
            self._finished.add(what)
        self._next = time.monotonic() + 5
        say(f"{what}  {done:,}" + (f" of {total:,}" if total else ""))


class Bars:
    """For terminals: one rich bar for training, one for a download."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._begun: set[str] = set()

    def _progress(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self._bars

    def _update(self, name: str, text: str, done: int, total: int | None) -> None:
        bars = self._progress()
        if name not in self._tasks:
            self._tasks[name] = bars.add_task(text, total=total)
        bars.update(self._tasks[name], description=text, completed=done, total=total)
        if done == total:  # a finished bar is removed
            bars.remove_task(self._tasks.pop(name))
            if not self._tasks:
                bars.stop()
                self._bars = None

    def stage(self, stage: str, metrics: Mapping[str, Any] | None) -> None:
        """Report that a stage was found in the store, or is done."""
        if metrics is None:
            self._begun.add(stage)
        else:
            self.message(f"{stage}  {'done' if stage in self._begun else 'from the store'}")

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Advance the stage's bar."""
        from gpw_cli.stages.services import epoch_text

        self._update(stage, f"{stage}  {epoch_text(record, epochs)}", record.epoch, epochs)
        if record.epoch == epochs:
            say(f"{stage}  {epoch_text(record, epochs)}")

    def message(self, text: str) -> None:
        """Print above the bars."""
        if self._bars is None:
            say(text)
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Advance the bar of ``what``."""
        self._update(what, what, done, total)
