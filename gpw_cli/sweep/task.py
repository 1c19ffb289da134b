"""One task of a sweep, its reply, and the worker that runs it: the same in every process.

worker = Worker(jobs=2)
worker.run(task, task.point.config, send)       # Reply(Status.done, ...)

Nothing here raises for what is wrong with a point: the reply says it, and the scheduler writes the
record, so that a worker needs no more than the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpw_cli.config.schema import Config
from gpw_cli.errors import GpwError
from gpw_cli.plugins import blamed
from gpw_cli.stages.pipeline import run
from gpw_cli.stages.services import Services, open_services
from gpw_cli.store.store import Busy
from gpw_cli.sweep.events import Reporter, Send
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.results import done_record, last_accuracy


@dataclass(frozen=True)
class Task:
    """The stages of ``point`` up to and including ``until``, whose key is ``key``.

    after: the key of a shared stage that must be made first; whole: the point itself, else stages
    that it shares with other points.
    """

    point: Point
    until: str
    key: str
    after: str | None
    whole: bool


class Status(StrEnum):
    """How a task ended."""

    done = "done"
    busy = "busy"  # another sweep is making one of its stages
    failed = "failed"
    killed = "killed"  # its worker is gone
    misplaced = "misplaced"  # this worker cannot work for this sweep


@dataclass(frozen=True)
class Reply:
    """text, exit_code: why it failed; record, accuracy (percent): of a whole point that is done."""

    status: Status
    text: str = ""
    record: Mapping[str, Any] | None = None
    accuracy: float | None = None
    exit_code: int = GpwError.exit_code


class Worker:
    """Runs one task after another; the services of the last one, with its images, stay open.

    jobs: the processes that share the cores of this machine.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.jobs = jobs
        self._services: Services | None = None

    def run(self, task: Task, config: Config, send: Send) -> Reply:
        """Run the stages of ``task`` with ``config``, the point's own or one with other paths."""
        return attempted(lambda: self._made(task, config, send))

    def _made(self, task: Task, config: Config, send: Send) -> Reply:
        reporter = Reporter(send)
        reporter.take(task.point.id)
        artifacts = run(config, self._opened(config, reporter), task.until, wait=False)
        if not task.whole:
            return Reply(Status.done)
        record = done_record(task.point, artifacts)
        return Reply(Status.done, "", record, last_accuracy(artifacts))

    def _opened(self, config: Config, reporter: Reporter) -> Services:
        if self._services is None or self._services.runtime != config.runtime:
            self._services = open_services(config, reporter, self.jobs)
        self._services.listener, self._services.store.warn = reporter, reporter.message
        return self._services


def attempted(work: Callable[[], Reply]) -> Reply:
    """The reply of ``work``, or what stopped it; our own errors explain themselves."""
    try:
        return work()
    except Busy:
        return Reply(Status.busy)
    except GpwError as error:
        return Reply(Status.failed, str(error), exit_code=error.exit_code)
    except Exception as error:
        text = blamed(error) or f"{type(error).__name__}: {error}"
        return Reply(Status.failed, text)
