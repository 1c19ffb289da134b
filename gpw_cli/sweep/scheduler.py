"""Which task of a sweep runs next, and what follows from how it ended: one policy for all pools.

    run_tasks(sweep, points, pool, send)        # ends when every point has its record

A pool (``WorkerPool``) runs what it is given and decides nothing: this process and local processes
(``processes.py``), or the workers of a Dask cluster (``cluster.py``). The policy:

- A stage that several points need is a task of its own. A task is ready when its shared stages are
  made, so no worker waits for another one's lock.
- Tasks run in the order of the points; a shared stage comes just before the first of its points.
- A stage that another sweep is making is tried again ``BUSY`` seconds later.
- A task whose worker was killed runs again, at once and up to ``RETRIES`` times. It continues from
  its last epoch.
- A task that fails takes all points that need its stage with it, and stops no other.
- Ctrl-C passes through; closing the pool then stops what is running.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gpw_cli.errors import UsageError
from gpw_cli.sweep.events import Event, Kind, Send
from gpw_cli.sweep.plan import PlannedSweep, Point
from gpw_cli.sweep.results import failed_record, status, write_record
from gpw_cli.sweep.task import Reply, Status, Task

POLL = 1.0  # seconds that a pool may wait before it looks for new workers
BUSY = 2.0
RETRIES = 3


class WorkerPool(Protocol):
    """Workers that run one task each at a time."""

    def free(self) -> int:
        """How many more tasks can start now."""

    def submit(self, task: Task) -> None:
        """Start ``task``; only while some worker is free."""

    def poll(self, seconds: float) -> list[tuple[Task, Reply]]:
        """The tasks that ended, after waiting ``seconds`` at most for the first."""

    def close(self) -> None:
        """Stop what is running."""


def shared_first(points: Sequence[Point]) -> list[Task]:
    """One task a point, each after the stages that it shares with other points."""
    uses = Counter(step.key for point in points for step in point.steps)
    tasks: dict[tuple[str, str], Task] = {}
    for point in points:
        after = None
        ends = [*(uses[step.key] for step in point.steps[1:]), 0]
        for step, following in zip(point.steps, ends, strict=True):
            if uses[step.key] > max(1, following):  # the points part after this stage
                task = Task(point, step.stage.name, step.key, after, whole=False)
                tasks.setdefault(("", step.key), task)
                after = step.key
        last = point.steps[-1]
        tasks[point.id, last.key] = Task(point, last.stage.name, last.key, after, whole=True)
    return list(tasks.values())


class Tasks:
    """The tasks that wait, in order."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._waiting = [(0.0, task) for task in shared_first(points)]
        self._open = {task.key for _, task in self._waiting if not task.whole}

    def __len__(self) -> int:
        return len(self._waiting)

    def ready(self) -> int | None:
        """Index of the first task that may run now; None if there is none."""
        now = time.monotonic()
        indices = (
            index
            for index, (earliest, task) in enumerate(self._waiting)
            if earliest <= now and task.after not in self._open
        )
        return next(indices, None)

    def take(self) -> Task | None:
        """The first task that may run now; None if there is none."""
        index = self.ready()
        return None if index is None else self._waiting.pop(index)[1]

    def put_off(self, task: Task, seconds: float) -> None:
        """Not now: another sweep is making its stage."""
        self._waiting.append((time.monotonic() + seconds, task))

    def put_back(self, task: Task) -> None:
        """It is the next one again."""
        self._waiting.insert(0, (0.0, task))

    def stalled(self) -> Task | None:
        """The first task that was put off, if nothing else is ready."""
        if self.ready() is not None:
            return None
        return next((task for earliest, task in self._waiting if earliest), None)

    def finished(self, task: Task) -> None:
        """Free the tasks that wait for it."""
        if not task.whole:
            self._open.discard(task.key)

    def failed(self, task: Task) -> list[Point]:
        """Drop the tasks that wait for it, at any distance; returns their points and its own."""
        lost, points = {task.key}, [task.point] if task.whole else []
        for earliest, other in list(self._waiting):  # what waits comes after what it waits for
            if other.after in lost:
                self._waiting.remove((earliest, other))
                if other.whole:
                    points.append(other.point)
                else:
                    lost.add(other.key)
        return points


def run_tasks(sweep: PlannedSweep, points: Sequence[Point], pool: WorkerPool, send: Send) -> None:
    """Run all ``points`` in ``pool`` and write the record of each as soon as it is decided.

    Raises UsageError when a worker cannot work for this sweep at all.
    """
    progress = _Progress(sweep, send, Tasks(points))
    running = 0
    while running or len(progress.tasks):
        for _ in range(pool.free()):
            if (task := progress.next()) is None:
                break
            pool.submit(task)
            running += 1
        ended = pool.poll(POLL)
        running -= len(ended)
        for task, reply in ended:
            progress.settle(task, reply)
        if not running:
            progress.tell_waiting()


@dataclass
class _Progress:
    """How far a sweep is: what waits, and how often each task lost its worker."""

    sweep: PlannedSweep
    send: Send
    tasks: Tasks

    def __post_init__(self) -> None:
        self._killed: Counter[str] = Counter()  # by key
        self._told: set[str] = set()

    def next(self) -> Task | None:
        """The next task, skipping points that failed in another process of this very sweep."""
        while (task := self.tasks.take()) is not None:
            state, error = status(self.sweep.folder, task.point) if task.whole else ("open", None)
            if state != "failed":
                break
            self.send(Event(task.point.id, Kind.failed, text=error or ""))
        return task

    def settle(self, task: Task, reply: Reply) -> None:
        """Write the records that this reply decides."""
        if reply.status is Status.misplaced:
            raise UsageError(reply.text)
        if reply.status is Status.busy:
            self.tasks.put_off(task, BUSY)
        elif reply.status is Status.killed:
            self._retry(task)
        elif reply.status is Status.failed:
            self._fail(task, reply)
        else:
            self.tasks.finished(task)
            if reply.record is not None:
                write_record(self.sweep.folder, task.point, reply.record)
                self.send(Event(task.point.id, Kind.done, accuracy=reply.accuracy))

    def _retry(self, task: Task) -> None:
        self._killed[task.key] += 1
        times = self._killed[task.key]
        if times <= RETRIES:
            self.tasks.put_back(task)
        else:
            text = f"{task.until}: its worker process was killed {times} times (out of memory?)"
            self._fail(task, Reply(Status.failed, text))

    def _fail(self, task: Task, reply: Reply) -> None:
        for point in self.tasks.failed(task):
            record = failed_record(point, reply.text, reply.exit_code)
            write_record(self.sweep.folder, point, record)
            self.send(Event(point.id, Kind.failed, text=reply.text))

    def tell_waiting(self) -> None:
        """Say once for each stage why nothing runs: another sweep is making it."""
        if (task := self.tasks.stalled()) is not None and task.key not in self._told:
            self._told.add(task.key)
            text = f"{task.until}: waiting for another gpw process that is making it"
            self.send(Event(task.point.id, Kind.message, text=text))
