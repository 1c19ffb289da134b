"""Run a sweep: record the points that the store has, run the others in a pool.

    outcome = run_sweep(sweep, print, processes(2))         # two processes of this machine
    outcome = run_sweep(sweep, print, on_cluster("tcp://head:8786"))    # the workers of a cluster
    outcome.failed                      # {"scheme=gpw,sparsity=0.9": "finetune: the loss is ..."}

The second argument receives all events (``gpw_cli/sweep/events.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from gpw_cli.errors import UsageError
from gpw_cli.store.store import Artifact, Store
from gpw_cli.sweep.events import Event, Kind, Send
from gpw_cli.sweep.plan import PlannedSweep, Point, claim_folder
from gpw_cli.sweep.results import (
    bad_input,
    done_record,
    last_accuracy,
    point_file,
    status,
    write_record,
)
from gpw_cli.sweep.scheduler import WorkerPool, run_tasks

# Opens a pool for the missing points: measures the cores, or connects to a cluster.
Executor = Callable[[Sequence[Point], Send], AbstractContextManager[WorkerPool]]


@dataclass(frozen=True)
class Outcome:
    """ran: points run by this call; hits: points found complete; failed: id -> one line."""

    ran: int
    hits: int
    failed: dict[str, str]


def run_sweep(sweep: PlannedSweep, send: Send, executor: Executor) -> Outcome:
    """Run all points that are not in the store; each record is written when its point ends.

    A failed point does not stop the others. Raises UsageError if all points fail with the same bad
    input, and the errors of the executor, before anything is written.
    """
    store = Store(
        Path(sweep.points[0].config.runtime.root) / "store",
        lambda text: send(Event("", Kind.message, text=text)),
    )
    with store.using(step.key for point in sweep.points for step in point.steps):
        return _run(sweep, store, send, executor)


def _run(sweep: PlannedSweep, store: Store, send: Send, executor: Executor) -> Outcome:
    stored = _stored(store, sweep.points)
    missing = [point for point in sweep.points if point.id not in stored]
    if not missing:
        _begin(sweep, stored, send)
        return Outcome(0, len(stored), {})
    with executor(missing, send) as pool:
        _begin(sweep, stored, send)
        for point in missing:  # failed points run again
            if status(sweep.folder, point)[0] == "failed":
                point_file(sweep.folder, point).unlink(missing_ok=True)
        run_tasks(sweep, missing, pool, send)
    failed = {
        p.id: error or "" for p in missing if (error := status(sweep.folder, p)[1]) is not None
    }
    _refuse_if_all_the_same(sweep, failed)
    return Outcome(len(missing) - len(failed), len(stored), failed)


def _stored(store: Store, points: Sequence[Point]) -> dict[str, dict[str, Artifact]]:
    """Artifacts of the complete points by id; shared artifacts are verified once."""
    looked: dict[str, Artifact | None] = {}
    found = {}
    for point in points:
        artifacts = {}
        for step in point.steps:
            if step.key not in looked:
                looked[step.key] = store.find(step.stage.name, step.key, step.parent)
            if (artifact := looked[step.key]) is None:
                break
            artifacts[step.stage.name] = artifact
        else:
            found[point.id] = artifacts
    return found


def _begin(sweep: PlannedSweep, stored: dict[str, dict[str, Artifact]], send: Send) -> None:
    """Claim the folder and record the complete points."""
    claim_folder(sweep)
    grids = "; ".join(_shown(grid) for grid in sweep.grids if grid)
    count = "1 run" if len(sweep.points) == 1 else f"{len(sweep.points)} runs"
    known = f", {len(stored)} of them in the store" if stored else ""
    axes = f" ({grids})" if grids else ""
    send(Event("", Kind.message, text=f"{count}{axes} -> {sweep.folder}{known}"))
    for point in sweep.points:
        if (artifacts := stored.get(point.id)) is not None:
            write_record(sweep.folder, point, done_record(point, artifacts))
            send(Event(point.id, Kind.stored, accuracy=last_accuracy(artifacts)))


def _shown(grid: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{key}: {' '.join(found)}" for key, found in grid.items())


def _refuse_if_all_the_same(sweep: PlannedSweep, failed: dict[str, str]) -> None:
    messages = set(failed.values())
    if len(failed) < len(sweep.points) or len(messages) > 1:
        return
    if all(bad_input(sweep.folder, point) for point in sweep.points):
        raise UsageError(f"every point failed: {messages.pop()}")
