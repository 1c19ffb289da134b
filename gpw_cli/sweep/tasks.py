"""Points as tasks for workers that do not know of each other: shared stages first, each once.

    tasks = Tasks(points)
    task = tasks.take()             # None: all that is left waits for a running one
    tasks.finished(task)            # or tasks.failed(task), tasks.put_off(task, seconds)

A stage that several points need is a task of its own, and those points wait for it here, so that no
worker waits for another one's lock.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpw_cli.sweep.plan import Point


@dataclass(frozen=True)
class Task:
    """The stages of ``point`` up to and including ``until``; ``after``: a key to be made first."""

    point: Point
    until: str
    key: str
    after: str | None
    whole: bool  # the point itself; else stages that it shares with others


def shared_first(points: Sequence[Point]) -> list[Task]:
    """One task a point, and before them one for each run of stages that points have in common."""
    uses = Counter(step.key for point in points for step in point.steps)
    shared: dict[str, Task] = {}
    whole: list[Task] = []
    for point in points:
        after = None
        ends = [*(uses[step.key] for step in point.steps[1:]), 0]
        for step, following in zip(point.steps, ends, strict=True):
            if uses[step.key] > max(1, following):  # here the ways of these points part
                task = Task(point, step.stage.name, step.key, after, whole=False)
                shared.setdefault(step.key, task)
                after = step.key
        last = point.steps[-1]
        whole.append(Task(point, last.stage.name, last.key, after, whole=True))
    return [*shared.values(), *whole]


class Tasks:
    """Which task may run next."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._waiting = [(0.0, task) for task in shared_first(points)]
        self._open = {task.key for _, task in self._waiting if not task.whole}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Task | None:
        """The first task whose shared stages are made; None if there is none now."""
        now = time.monotonic()
        for index, (earliest, task) in enumerate(self._waiting):
            if earliest <= now and task.after not in self._open:
                del self._waiting[index]
                return task
        return None

    def put_off(self, task: Task, seconds: float) -> None:
        """Not now: another sweep is making its stage."""
        self._waiting.append((time.monotonic() + seconds, task))

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
