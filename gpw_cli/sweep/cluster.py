"""The points of a sweep on a Dask cluster: an existing one by its address, or jobs of Slurm.

    run_sweep(sweep, print, on_cluster("tcp://head:8786"))
    run_sweep(sweep, print, on_cluster("slurm", jobs=4))    # as ~/.config/dask/jobqueue.yaml says

The client keeps the list of tasks and hands out one a worker; Dask moves the task of a worker that
died to another, which goes on from its last epoch. Everything else is as with local processes: the
store, which all must see, holds what is done.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.errors import GpwError, UsageError
from gpw_cli.sweep import remote
from gpw_cli.sweep.events import Event, Kind, Send
from gpw_cli.sweep.plan import Point, Sweep
from gpw_cli.sweep.remote import TOPIC, Machine, Reply, Run
from gpw_cli.sweep.results import failed_record, write_record
from gpw_cli.sweep.run import Executor, Make
from gpw_cli.sweep.tasks import Task, Tasks

if TYPE_CHECKING:
    from distributed import Client, Future

SLURM = "slurm"
CONNECT = 5.0  # seconds
POLL = 1.0  # seconds between two looks for workers that came or went
BUSY = 2.0  # seconds until a task is tried again whose stage another sweep is making


def on_cluster(address: str, jobs: int = 1) -> Executor:
    """The workers of the scheduler at ``address``; ``slurm``: of ``jobs`` jobs submitted for it."""
    _require_extra("dask_jobqueue" if address == SLURM else "distributed")

    @contextmanager
    def ready(points: Sequence[Point], send: Send) -> Iterator[Make]:
        with _slurm(jobs) if address == SLURM else _client(address, address) as client:
            yield partial(_make, client=client, address=address)

    return ready


def _require_extra(module: str) -> None:
    if find_spec(module) is None:
        raise UsageError(f"--cluster needs {module}: pip install 'gpw[cluster]'")


@contextmanager
def _client(scheduler: Any, address: str) -> Iterator[Client]:
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # what matters we say ourselves
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout=CONNECT)
    except (OSError, ValueError, TypeError) as error:
        why = "nothing answers there" if isinstance(error, OSError) else str(error)
        raise UsageError(
            f"--cluster {address}: no Dask scheduler ({why}); start one with `dask scheduler` and "
            "name it as tcp://HOST:8786"
        ) from None
    with client:
        yield client


@contextmanager
def _slurm(jobs: int) -> Iterator[Client]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    from dask_jobqueue import SLURMCluster  # whose import makes Ctrl-C a silent exit with 0

    for number, handler in handlers.items():
        signal.signal(number, handler)
    if shutil.which("sbatch") is None:
        raise UsageError("--cluster slurm: there is no sbatch here; run on a login node of Slurm")
    settings = "jobqueue.slurm in ~/.config/dask/jobqueue.yaml"
    try:
        submitted = SLURMCluster()
    except (ValueError, TypeError) as error:
        why = str(error).splitlines()[0]
        raise UsageError(f"--cluster slurm: {why} ({settings})") from None
    with submitted:
        test = ["sbatch", "--test-only"]  # what it refuses, the scheduler would only log
        tested = subprocess.run(test, input=submitted.job_script(), capture_output=True, text=True)
        if tested.returncode:
            why = (tested.stderr.strip().splitlines() or ["sbatch --test-only failed"])[-1]
            raise UsageError(f"--cluster slurm: {why} ({settings})")
        submitted.scale(jobs=jobs)
        with _client(submitted, SLURM) as client:
            yield client


def _make(
    sweep: Sweep, points: Sequence[Point], send: Send, *, client: Client, address: str
) -> None:
    root = Path(remote.absolute(points[0].config).runtime.root)
    mark = root / f"cluster-{uuid.uuid4().hex[:12]}"
    root.mkdir(parents=True, exist_ok=True)
    mark.touch()
    client.subscribe_topic(TOPIC, partial(_hear, mark.name, send))
    workers = _Workers(client, address, send)
    tasks = Tasks(points)
    running: dict[Future[Reply], Task] = {}
    try:
        while running or len(tasks):
            with _scheduler_errors(address):
                workers.look()
            while len(running) < workers.count and (task := tasks.take()) is not None:
                config = remote.absolute(task.point.config)
                run = Run(mark.name, mark, workers.threads)
                running[client.submit(remote.make, task, config, run, pure=False)] = task
            with _scheduler_errors(address):
                replies = [(future, _reply(future)) for future in _ended(list(running))]
            for future, reply in replies:
                _settle(sweep, tasks, running.pop(future), reply, send)
    finally:
        client.cancel(list(running))
        mark.unlink(missing_ok=True)


def _hear(run: str, send: Send, stamped: tuple[float, dict[str, Any]]) -> None:
    """An event of a worker; those of other sweeps on the same cluster come along."""
    told = stamped[1]
    if told["run"] == run:
        names = {field.name for field in fields(Event)}
        plain = {name: value for name, value in told.items() if name in names}
        send(Event(**{**plain, "kind": Kind(told["kind"])}))


class _Workers:
    """Who is there: one task each, and the threads that it may use."""

    def __init__(self, client: Client, address: str, send: Send) -> None:
        self.client, self.address, self.send = client, address, send
        self.threads: dict[Machine, int] = {}
        self._known: frozenset[str] | None = None

    @property
    def count(self) -> int:
        """Tasks that may run at the same time; one even now waits at the scheduler for a worker."""
        return max(1, len(self._known or ()))

    def look(self) -> None:
        """Ask the scheduler; where processes share cores, each gets its part of them."""
        known = frozenset(self.client.nthreads())
        if known == self._known:
            return
        self._known = known
        found: dict[str, Machine] = self.client.run(remote.machine, on_error="ignore")
        for host, cores in set(found.values()):
            here = sum(h == host and bool({*cores} & {*c}) for h, c in found.values())
            self.threads[host, cores] = max(1, len(cores) // here)
        count = f"{len(known)} worker{'s' * (len(known) != 1)}"
        self.send(Event("", Kind.message, text=f"cluster {self.address}: {count}"))


@contextmanager
def _scheduler_errors(address: str) -> Iterator[None]:
    from distributed import CancelledError

    try:
        yield
    except (CancelledError, OSError):
        raise GpwError(
            f"--cluster {address}: the scheduler does not answer any more; the same command goes "
            "on from the last finished epochs once it is there again"
        ) from None


def _ended(running: list[Future[Reply]]) -> list[Future[Reply]]:
    """Those that have ended, after a second at most."""
    from distributed import wait

    if not running:
        time.sleep(POLL)
        return []
    try:
        return list(wait(running, timeout=POLL, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []


def _reply(future: Future[Reply]) -> Reply:
    error = future.exception()
    if error is None:
        reply: Reply = future.result()
        return reply
    return Reply("failed", f"{type(error).__name__}: {error}")


def _settle(sweep: Sweep, tasks: Tasks, task: Task, reply: Reply, send: Send) -> None:
    """Write the records of what is decided with this reply."""
    if reply.status == "misplaced":
        raise UsageError(reply.text)
    if reply.status == "busy":
        tasks.put_off(task, BUSY)
    elif reply.status == "failed":
        for point in tasks.failed(task):
            write_record(sweep.folder, point, failed_record(point, reply.text, reply.exit_code))
            send(Event(point.id, Kind.failed, text=reply.text))
    else:
        tasks.finished(task)
        if reply.record is not None:
            write_record(sweep.folder, task.point, reply.record)
            send(Event(task.point.id, Kind.done, accuracy=reply.accuracy))
