"""What runs next and what follows from how it ended: one policy for every kind of worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TINY
from test_sweep import results, start

from gpw_cli.errors import UsageError
from gpw_cli.sweep import scheduler
from gpw_cli.sweep.events import Event, Kind
from gpw_cli.sweep.plan import PlannedSweep, Point, Request, plan_sweep
from gpw_cli.sweep.results import failed_record, status, write_record
from gpw_cli.sweep.scheduler import RETRIES, Tasks, run_tasks, shared_first
from gpw_cli.sweep.task import Reply, Status, Task

GRID = ("data=digits", "seed=0,1", "scheme=gpw,block", "sparsity=0.5", "bits=8,6")
Decide = Callable[[Task, int], Reply]


class Scripted:
    """``count`` workers whose tasks end in order; ``decide(task, attempt)`` says how."""

    def __init__(self, count: int, decide: Decide) -> None:
        self.count, self.decide = count, decide
        self.running: list[Task] = []
        self.submitted: list[Task] = []

    def free(self) -> int:
        return self.count - len(self.running)

    def submit(self, task: Task) -> None:
        assert self.free() > 0
        self.running.append(task)
        self.submitted.append(task)

    def poll(self, seconds: float) -> list[tuple[Task, Reply]]:
        if not self.running:
            return []
        task = self.running.pop(0)
        return [(task, self.decide(task, self.submitted.count(task)))]

    def close(self) -> None:
        self.running.clear()


def done(task: Task, attempt: int = 1) -> Reply:
    record = {"id": task.point.id, "status": "done", "error": None} if task.whole else None
    return Reply(Status.done, record=record)


@pytest.fixture
def planned(tmp_path: Path) -> PlannedSweep:
    sweep = plan_sweep(Request([*GRID, f"runtime.results={tmp_path}"], "s"))
    assert len(sweep.points) - len(pruned(sweep).points) == 4  # two seeds, two widths
    return pruned(sweep)


def pruned(sweep: PlannedSweep) -> PlannedSweep:
    """Without the dense networks that every sweep has."""
    return replace(sweep, points=[p for p in sweep.points if p.axes.get("scheme") != "dense"])


def ran(planned: PlannedSweep, pool: Scripted) -> list[Event]:
    told: list[Event] = []
    run_tasks(planned, planned.points, pool, told.append)
    return told


def names(tasks: Sequence[Task], points: Sequence[Point]) -> list[str]:
    index = {point.id: str(number) for number, point in enumerate(points)}
    return [index[task.point.id] + ("" if task.whole else f" {task.until}") for task in tasks]


def test_shared_stages_are_tasks_of_their_own() -> None:
    """Two networks, four masks, and two quantizers on each: the ways part after both."""
    grid = ["data=digits", "seed=0,1", "scheme=gpw,block", "quantizer=best,profile"]
    sweep = plan_sweep(Request([*grid, "sparsity=0.5", "pretrain.train.epochs=1"]))
    points = pruned(sweep).points
    tasks = shared_first(points)
    whole = [task for task in tasks if task.whole]
    shared = {task.key: task for task in tasks if not task.whole}
    assert [task.point for task in whole] == points
    assert sorted(task.until for task in shared.values()) == ["finetune"] * 4 + ["pretrain"] * 2
    for task in whole:
        (before,) = {step.key for step in task.point.steps if step.stage.name == "finetune"}
        assert task.after == before
        after = shared[before].after
        assert after is not None
        assert shared[after].until == "pretrain"


def test_no_two_running_tasks_make_the_same_stage() -> None:
    points = pruned(plan_sweep(Request([*GRID]))).points
    tasks, stored, running = Tasks(points), set[str](), list[Task]()
    ended: list[Task] = []
    while running or len(tasks):
        while len(running) < 3 and (task := tasks.take()) is not None:
            running.append(task)
        missing = [key for task in running for key in keys(task) if key not in stored]
        assert len(missing) == len(set(missing))
        ended.append(running.pop(0))
        stored.update(keys(ended[-1]))
        tasks.finished(ended[-1])
    assert [task.point.id for task in ended if task.whole] == [point.id for point in points]


def keys(task: Task) -> list[str]:
    """Of the stages that ``task`` makes unless they are stored."""
    names = [step.stage.name for step in task.point.steps]
    return [step.key for step in task.point.steps[: names.index(task.until) + 1]]


def test_points_fail_with_the_stage_that_they_share() -> None:
    points = pruned(plan_sweep(Request([*GRID]))).points
    tasks = Tasks(points)
    task = tasks.take()
    assert task is not None
    assert task.until == "pretrain"
    assert [point.id for point in tasks.failed(task)] == [point.id for point in points[:4]]
    other = tasks.take()
    assert other is not None
    assert other.until == "pretrain"
    tasks.put_off(other, 60.0)
    assert tasks.take() is None
    assert len(tasks) == 1 + 2 + 4  # of the other seed: networks, masks, and points


def test_a_shared_stage_comes_just_before_the_first_of_its_points(planned: PlannedSweep) -> None:
    pool = Scripted(1, done)
    ran(planned, pool)
    order = ["0 pretrain", "0 finetune", "0", "1", "2 finetune", "2", "3"]
    order += ["4 pretrain", "4 finetune", "4", "5", "6 finetune", "6", "7"]
    assert names(pool.submitted, planned.points) == order
    assert {status(planned.folder, point) for point in planned.points} == {("done", None)}


def test_a_task_whose_worker_is_killed_is_the_next_one_again(planned: PlannedSweep) -> None:
    def decide(task: Task, attempt: int) -> Reply:
        killed = task.until == "finetune" and attempt <= RETRIES
        return Reply(Status.killed) if killed else done(task)

    pool = Scripted(1, decide)
    ran(planned, pool)
    order = names(pool.submitted, planned.points)
    assert order[: RETRIES + 3] == ["0 pretrain", *["0 finetune"] * (RETRIES + 1), "0"]
    assert len(order) == 14 + 4 * RETRIES
    assert {status(planned.folder, point) for point in planned.points} == {("done", None)}


def test_a_task_that_kills_every_worker_fails_with_its_points(planned: PlannedSweep) -> None:
    first = planned.points[0].steps[0].key

    def decide(task: Task, attempt: int) -> Reply:
        return Reply(Status.killed) if task.key == first else done(task)

    pool = Scripted(2, decide)
    told = ran(planned, pool)
    assert sum(task.key == first for task in pool.submitted) == RETRIES + 1
    states = [status(planned.folder, point)[0] for point in planned.points]
    assert states == ["failed"] * 4 + ["done"] * 4
    assert sum(event.kind is Kind.failed for event in told) == 4


def test_a_stage_that_another_sweep_makes_is_tried_again_after_all_others(
    planned: PlannedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "BUSY", 0.02)

    def decide(task: Task, attempt: int) -> Reply:
        busy = task.until == "pretrain" and task.point is planned.points[0] and attempt <= 3
        return Reply(Status.busy) if busy else done(task)

    pool = Scripted(1, decide)
    told = ran(planned, pool)
    order = names(pool.submitted, planned.points)
    assert order.count("0 pretrain") == 4
    assert order[1] == "4 pretrain"
    waiting = [event for event in told if event.kind is Kind.message]
    assert len(waiting) <= 1  # once a stage, and only while nothing else is ready
    assert {status(planned.folder, point) for point in planned.points} == {("done", None)}


def test_a_sweep_that_only_waits_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "BUSY", 0.01)
    one = plan_sweep(Request(["data=digits", "scheme=dense", f"runtime.results={tmp_path}"], "s"))
    pool = Scripted(1, lambda task, n: Reply(Status.busy) if n < 4 else done(task))
    messages = [event.text for event in ran(one, pool) if event.kind is Kind.message]
    assert messages == ["simulate: waiting for another gpw process that is making it"]


def test_a_point_that_failed_in_the_same_sweep_elsewhere_is_not_run(planned: PlannedSweep) -> None:
    point = planned.points[1]
    write_record(planned.folder, point, failed_record(point, "the loss is not finite", 1))
    pool = Scripted(1, done)
    told = ran(planned, pool)
    assert "1" not in names(pool.submitted, planned.points)
    assert [event.text for event in told if event.kind is Kind.failed] == ["the loss is not finite"]


def test_a_misplaced_worker_ends_the_sweep(planned: PlannedSweep) -> None:
    pool = Scripted(1, lambda task, n: Reply(Status.misplaced, "it has another version of gpw"))
    with pytest.raises(UsageError, match="another version"):
        ran(planned, pool)
    assert len(pool.submitted) == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")
def test_a_local_worker_that_is_killed_is_replaced_and_changes_no_byte(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    command = ("sweep", *TINY, "--until", "finetune", "scheme=gpw", "sparsity=0.5,0.9")
    command += ("runtime.threads=1", "finetune.train.epochs=4", "--name", "s")
    told: list[str] = []
    killed: list[int] = []
    with start(there, *command, "--jobs", "2") as process:
        assert process.stderr is not None
        for line in process.stderr:
            told.append(line)
            if "finetune  epoch 1/4" in line and not killed:
                killed = workers(process.pid)
                for child in killed:
                    os.kill(child, signal.SIGKILL)
    assert process.returncode == 0, told
    assert len(killed) == 2
    with start(here, *command) as process:
        process.communicate()
    assert results(there / "results/s") == results(here / "results/s")


def workers(parent: int) -> list[int]:
    """Its children but for the helper of ``multiprocessing`` that only tracks semaphores."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
