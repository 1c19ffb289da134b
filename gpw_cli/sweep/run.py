"""Running the points of a sweep, in one process or in several that share the work by file locks.

    outcome = run_sweep(sweep, listener, jobs=2)
    outcome.failed                      # {"scheme=gpw,sparsity=0.9": "finetune: the loss is ..."}

Every process walks the same list and takes whatever nobody else is making: there is no queue to
lose. A killed worker's lock frees itself, and another process goes on from its last epoch.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from gpw_cli.errors import GpwError, UsageError
from gpw_cli.stages.pipeline import cached, run
from gpw_cli.stages.services import Listener, Services, Silent, open_services
from gpw_cli.store.store import Busy
from gpw_cli.sweep.plan import Point, Request, Sweep, claim_folder, plan_sweep
from gpw_cli.sweep.results import point_file, status, write_done, write_failed


@dataclass(frozen=True)
class Outcome:
    """ran: points computed by this call; hits: found complete; failed: id -> one line."""

    ran: int
    hits: int
    failed: dict[str, str]


def run_sweep(sweep: Sweep, listener: Listener, jobs: int = 1) -> Outcome:
    """Run every point that is not in the store; each finished point is written at once.

    A failed point never stops the others. Raises UsageError when all points fail with the same
    bad input.
    """
    claim_folder(sweep)
    services = open_services(sweep.points[0].config, listener, jobs)
    for point in sweep.points:
        if status(sweep.folder, point)[0] == "failed":
            point_file(sweep.folder, point).unlink(missing_ok=True)
    missing = [point for point in sweep.points if not record_if_cached(services, sweep, point)]
    hits = len(sweep.points) - len(missing)
    if missing:
        workers = _start_workers(sweep, min(jobs, len(missing)) - 1, jobs)
        try:
            work_through(sweep, missing, services)
        finally:
            _stop_workers(workers)
    failed = {
        p.id: error or "" for p in missing if (error := status(sweep.folder, p)[1]) is not None
    }
    _refuse_if_all_the_same(sweep, failed)
    return Outcome(len(missing) - len(failed), hits, failed)


def record_if_cached(services: Services, sweep: Sweep, point: Point) -> bool:
    """Write the record of a point whose artifacts are all in the store."""
    artifacts = cached(services.store, list(point.steps))
    if artifacts is None:
        return False
    write_done(sweep.folder, point, artifacts)
    return True


def work_through(sweep: Sweep, points: Sequence[Point], services: Services) -> None:
    """Make all ``points``; those that another process is making are left for a later round."""
    left, done = list(points), len(sweep.points) - len(points)
    while left:
        busy = []
        for point in left:
            if not _try_point(sweep, point, services, wait=False):
                busy.append(point)
                continue
            done += 1
            services.listener.progress("points", done, len(sweep.points))
        if len(busy) == len(left):  # nothing to do but wait for one
            _try_point(sweep, busy.pop(0), services, wait=True)
            done += 1
        left = busy


def _try_point(sweep: Sweep, point: Point, services: Services, *, wait: bool) -> bool:
    """False when another process is at it; otherwise the point's record is written."""
    if status(sweep.folder, point)[0] == "failed":  # in another process of this very sweep
        return True
    services.listener.message(f"point {point.id}")
    try:
        last = point.steps[-1].stage.name
        write_done(sweep.folder, point, run(point.config, services, last, wait=wait))
    except Busy:
        return False
    except GpwError as error:
        write_failed(sweep.folder, point, str(error))
        services.listener.message(f"point {point.id} failed: {error}")
    except Exception as error:
        write_failed(sweep.folder, point, f"{type(error).__name__}: {error}")
        services.listener.message(f"point {point.id} failed: {type(error).__name__}: {error}")
    return True


def _refuse_if_all_the_same(sweep: Sweep, failed: dict[str, str]) -> None:
    messages = set(failed.values())
    if len(failed) == len(sweep.points) and len(messages) == 1:
        raise UsageError(f"every point failed: {messages.pop()}")


def _start_workers(
    sweep: Sweep, count: int, jobs: int
) -> list[multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch has threads
    workers: list[multiprocessing.process.BaseProcess] = [
        context.Process(target=worker_main, args=(sweep.request, jobs, index + 1), daemon=True)
        for index in range(count)
    ]
    for worker in workers:
        worker.start()
    return workers


def worker_main(request: Request, jobs: int, index: int) -> None:
    """One worker process: the same sweep, its walk begun at another place."""
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    sweep = plan_sweep(request)
    services = open_services(sweep.points[0].config, Silent(), jobs)
    start = index * len(sweep.points) // jobs
    with suppress(KeyboardInterrupt):
        work_through(sweep, sweep.points[start:] + sweep.points[:start], services)


def _die_with_parent(parent: int) -> None:
    """A sweep killed with -9 takes its workers along; the store is safe at any moment."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _stop_workers(workers: list[multiprocessing.process.BaseProcess]) -> None:
    """All points are done, or we were interrupted: no worker has anything to finish."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
