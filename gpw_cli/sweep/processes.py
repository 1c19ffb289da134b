"""The points of a sweep in one process, or in several that share the work by file locks.

    run_sweep(sweep, print, processes(2))       # None in place of 2: as many as measure fastest

Every process walks the same list and takes whatever nobody else is making: there is no queue to
lose. A killed worker's lock frees itself, and another process goes on from its last epoch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import cast

from gpw_cli.errors import GpwError
from gpw_cli.plugins import blamed
from gpw_cli.stages.pipeline import run
from gpw_cli.stages.services import Services, open_services
from gpw_cli.store.store import Busy
from gpw_cli.sweep.events import Event, Reporter, Send
from gpw_cli.sweep.jobs import fastest_jobs
from gpw_cli.sweep.plan import Point, Sweep
from gpw_cli.sweep.results import done_record, failed_record, last_accuracy, status, write_record
from gpw_cli.sweep.run import Executor, Make
from gpw_cli.sweep.spawn import spawned


def processes(jobs: int | None) -> Executor:
    """``jobs`` processes of this machine, this one included; None: as many as measure fastest."""

    @contextmanager
    def ready(points: Sequence[Point], send: Send) -> Iterator[Make]:
        yield partial(_make, jobs=jobs or fastest_jobs(points, Reporter(send).message))

    return ready


def _make(sweep: Sweep, points: Sequence[Point], send: Send, *, jobs: int) -> None:
    reporter = Reporter(send)
    services = open_services(points[0].config, reporter, jobs)
    with _workers(sweep, points, min(jobs, len(points)) - 1, jobs, send):
        work_through(sweep, points, services, reporter)


def work_through(
    sweep: Sweep, points: Sequence[Point], services: Services, reporter: Reporter
) -> None:
    """Make all ``points``; those that another process is making are left for a later round."""
    left = list(points)
    while left:
        busy = [p for p in left if not _try_point(sweep, p, services, reporter, wait=False)]
        if len(busy) == len(left):  # nothing to do but wait for one
            _try_point(sweep, busy.pop(0), services, reporter, wait=True)
        left = busy


def _try_point(
    sweep: Sweep, point: Point, services: Services, reporter: Reporter, *, wait: bool
) -> bool:
    """False when another process is at it; otherwise the point's record is written."""
    reporter.take(point.id)
    state, error = status(sweep.folder, point)
    if state == "failed":  # in another process of this very sweep
        reporter.failed(error or "")
        return True
    try:
        artifacts = run(point.config, services, point.steps[-1].stage.name, wait=wait)
        write_record(sweep.folder, point, done_record(point, artifacts))
        reporter.done(last_accuracy(artifacts))
    except Busy:
        return False
    except Exception as error:
        text = one_line(error)
        code = error.exit_code if isinstance(error, GpwError) else GpwError.exit_code
        write_record(sweep.folder, point, failed_record(point, text, code))
        reporter.failed(text)
    return True


def one_line(error: Exception) -> str:
    """What a failed point's record says: our own errors explain themselves."""
    if isinstance(error, GpwError):
        return str(error)
    return blamed(error) or f"{type(error).__name__}: {error}"


@contextmanager
def _workers(
    sweep: Sweep, points: Sequence[Point], count: int, jobs: int, send: Send
) -> Iterator[None]:
    """``count`` processes at work beside this one; each begins its walk at another place.

    They end with the block: all points are done, or we were interrupted.
    """
    starts = [(index + 1) * len(points) // (count + 1) for index in range(count)]
    walks = [(sweep, (*points[start:], *points[:start]), jobs) for start in starts]
    with spawned(_work, walks) as pipes:
        relay = threading.Thread(target=_relay, args=(pipes, send), daemon=True)
        relay.start()
        yield
    relay.join()


def _work(sweep: Sweep, points: Sequence[Point], jobs: int, sender: Connection) -> None:
    """One worker process."""
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    reporter = Reporter(sender.send)
    services = open_services(points[0].config, reporter, jobs)
    with suppress(BrokenPipeError):
        work_through(sweep, points, services, reporter)


def _die_with_parent(parent: int) -> None:
    """A sweep killed with -9 takes its workers along; the store is safe at any moment."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _relay(pipes: Sequence[Connection], send: Send) -> None:
    """Pass on what the workers tell until each has closed its end, killed or not."""
    left = list(pipes)
    while left:
        for pipe in cast(list[Connection], wait(left)):
            try:
                event: Event = pipe.recv()
            except (EOFError, OSError):
                left.remove(pipe)
            else:
                send(event)
