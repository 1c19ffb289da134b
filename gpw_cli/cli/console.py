"""Console output: progress on stderr, as bars on a terminal and as lines elsewhere; results on
stdout.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


_EPOCH = re.compile(r"epoch (\d+)/(\d+)")  # in what is counted: this epoch, the last


class Timed:
    """The times of stages, since the first of them was reported; ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._begun: dict[str, float] = {}

    def begins(self, name: str, stage: str, what: str) -> list[str]:
        """``finetune  resnet20 on cifar10: 10 epochs, recipe restart  after 12 s``; ``name``: by
        which its end is asked for. No line where there is nothing to say.
        """
        self._begun[name] = self._clock()
        after = self._begun[name] - self._start
        late = f"  after {duration(after)}" if after >= 1 else ""
        return [f"{stage}  {what}{late}"] if what else []

    def ends(self, name: str) -> str | None:
        """``done in 41 s``; None if it never began: it was found in the store."""
        begun = self._begun.pop(name, None)
        return None if begun is None else f"done in {duration(self._clock() - begun)}"


class Lines:
    """For logs: a line per stage, epoch and message, and every few seconds of a download."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._next = 0.0
        self._clock = clock
        self._first: dict[str, tuple[float, int]] = {}  # of each count: its time and number
        self._finished: set[str] = set()  # downloads may report their end more than once
        self._timed = Timed()

    def stage(self, stage: str, metrics: Mapping[str, Any] | None, what: str = "") -> None:
        """Report that a stage begins, is done, or was found in the store."""
        if metrics is None:
            for line in self._timed.begins(stage, stage, what):
                say(line)
        else:
            say(f"{stage}  {self._timed.ends(stage) or 'from the store'}")

    def epoch(self, stage: str, record: EpochRecord, epochs: int) -> None:
        """Print the epoch."""
        from gpw_cli.stages.services import epoch_text

        say(f"{stage}  {epoch_text(record, epochs)}")

    def message(self, text: str) -> None:
        """Print the line."""
        say(text)

    def progress(self, what: str, done: int, total: int | None) -> None:
        """Print at most one line every five seconds, the last one, and what begins."""
        if not done and total is None:
            say(what)
            return
        now = self._clock()
        if (now < self._next and done != total) or what in self._finished:
            return
        if done == total:
            self._finished.add(what)
        self._next = now + 5
        of = f" of {total:,}{self._left(what, done, total, now)}" if total else ""
        say(f"{what}  {done:,}{of}")

    def _left(self, what: str, done: int, total: int, now: float) -> str:
        """``  about 6 min left``, from the pace since the first report of ``what``.

        Within an epoch, it is the time to the end of the last epoch.
        """
        began, before = self._first.setdefault(what, (now, done))
        if done >= total or done <= before or now <= began:
            return ""
        epoch = _EPOCH.search(what)
        further = (int(epoch[2]) - int(epoch[1])) * total if epoch else 0
        left = (total - done + further) * (now - began) / (done - before)
        return f"  about {duration(left)} left"


class Bars:
    """For terminals: one rich bar for training, one for a download."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._timed = Timed()

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

    def stage(self, stage: str, metrics: Mapping[str, Any] | None, what: str = "") -> None:
        """Report that a stage begins, is done, or was found in the store."""
        if metrics is None:
            for line in self._timed.begins(stage, stage, what):
                self.message(line)
        else:
            self.message(f"{stage}  {self._timed.ends(stage) or 'from the store'}")

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
        """Advance the bar of ``what``, or print what begins."""
        if not done and total is None:
            self.message(what)
            return
        self._update(what, what, done, total)
