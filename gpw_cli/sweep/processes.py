"""The points of a sweep in this process, or in several processes of this machine.

    run_sweep(sweep, print, processes(2))       # None in place of 2: as many as measure fastest

A worker that is killed is replaced, and the scheduler gives its task to another one; its lock in
the store frees itself, and the task continues from its last epoch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import cast

from gpw_cli.sweep.events import Event, Reporter, Send
from gpw_cli.sweep.jobs import fastest_jobs
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.run import Executor
from gpw_cli.sweep.scheduler import WorkerPool
from gpw_cli.sweep.spawn import Helper, start, stop
from gpw_cli.sweep.task import Reply, Status, Task, Worker


def processes(jobs: int | None) -> Executor:
    """``jobs`` processes of this machine; 1: this one; None: as many as measure fastest."""

    @contextmanager
    def ready(points: Sequence[Point], send: Send) -> Iterator[WorkerPool]:
        shares = jobs or fastest_jobs(points, Reporter(send).message)
        count = min(shares, len(points))
        pool = ThisProcess(shares, send) if count == 1 else Processes(count, shares, send)
        with closing(pool):
            yield pool

    return ready


class ThisProcess:
    """A pool of one, which runs its task while it is polled."""

    def __init__(self, jobs: int, send: Send) -> None:
        self._worker, self._send = Worker(jobs), send
        self._task: Task | None = None

    def free(self) -> int:
        """1, or 0 once it has a task."""
        return int(self._task is None)

    def submit(self, task: Task) -> None:
        """Keep ``task`` for the next poll."""
        self._task = task

    def poll(self, seconds: float) -> list[tuple[Task, Reply]]:
        """Run the task to its end, however long that takes."""
        if (task := self._task) is None:
            time.sleep(seconds)
            return []
        self._task = None
        return [(task, self._worker.run(task, task.point.config, self._send))]

    def close(self) -> None:
        """Nothing is running outside of ``poll``."""


class Processes:
    """``count`` processes, each started with its first task; ``jobs`` share the cores."""

    def __init__(self, count: int, jobs: int, send: Send) -> None:
        self._count, self._jobs, self._send = count, jobs, send
        self._idle: list[Helper] = []
        self._running: dict[Connection, tuple[Helper, Task]] = {}

    def free(self) -> int:
        """Processes without a task, started or not."""
        return self._count - len(self._running)

    def submit(self, task: Task) -> None:
        """Hand ``task`` to an idle process, or to a new one."""
        helper = self._given(task)
        self._running[helper.pipe] = helper, task

    def _given(self, task: Task) -> Helper:
        while self._idle:
            helper = self._idle.pop()
            with suppress(OSError):  # killed while it was idle
                helper.pipe.send(task)
                return helper
            stop([helper])
        helper = start(_work, self._jobs)
        helper.pipe.send(task)
        return helper

    def poll(self, seconds: float) -> list[tuple[Task, Reply]]:
        """Pass on the events that have come in; a pipe that ends is a killed worker."""
        if not self._running:
            time.sleep(seconds)
            return []
        ended = []
        for pipe in cast(list[Connection], wait(list(self._running), seconds)):
            try:
                told: Event | Reply = pipe.recv()
            except (EOFError, OSError):
                helper, task = self._running.pop(pipe)
                stop([helper])
                ended.append((task, Reply(Status.killed)))
                continue
            if isinstance(told, Event):
                self._send(told)
            else:
                helper, task = self._running.pop(pipe)
                self._idle.append(helper)
                ended.append((task, told))
        return ended

    def close(self) -> None:
        """End all processes; the store is safe at any moment."""
        stop([*self._idle, *(helper for helper, _ in self._running.values())])


def _work(jobs: int, pipe: Connection) -> None:
    """One worker process: a task comes in, events and a reply go out."""
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    worker = Worker(jobs)
    with suppress(EOFError, OSError):  # the parent has gone
        while True:
            task: Task = pipe.recv()
            pipe.send(worker.run(task, task.point.config, pipe.send))


def _die_with_parent(parent: int) -> None:
    """A sweep killed with -9 takes its workers along; the store is safe at any moment."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
