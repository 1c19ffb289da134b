"""The points of a sweep on a Dask cluster: an existing one by its address, or jobs of Slurm.

    run_sweep(sweep, print, on_cluster("tcp://head:8786"))
    run_sweep(sweep, print, on_cluster("slurm", jobs=4))    # as ~/.config/dask/jobqueue.yaml says

Each worker gets one task at a time. When a worker disappears, ``scheduler.py`` gives its task to
another worker, which continues from the last epoch. The store, which all workers must see, holds
what is done.
"""

from __future__ import annotations

import logging
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.errors import GpwError, UsageError
from gpw_cli.sweep import remote
from gpw_cli.sweep.events import Event, Kind, Send
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.remote import TOPIC, Machine, SweepContext
from gpw_cli.sweep.run import Executor
from gpw_cli.sweep.scheduler import WorkerPool
from gpw_cli.sweep.task import Reply, Status, Task

if TYPE_CHECKING:
    from distributed import Client, Future

SLURM = "slurm"
CONNECT = 5.0  # seconds


def on_cluster(address: str, jobs: int = 1) -> Executor:
    """The workers of the scheduler at ``address``; ``slurm``: of ``jobs`` jobs submitted for it."""
    _require_extra("dask_jobqueue" if address == SLURM else "distributed")

    @contextmanager
    def ready(points: Sequence[Point], send: Send) -> Iterator[WorkerPool]:
        with _slurm(jobs) if address == SLURM else _client(address, address) as client:
            root = Path(remote.absolute(points[0].config).runtime.root)
            with closing(Cluster(client, address, root, send)) as pool:
                yield pool

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


class Cluster:
    """The workers of a Dask cluster, whoever comes and goes; one task each.

    Every task is bound to the worker that it was given to: a task of a lost worker comes back to
    the scheduler as killed, where Dask alone would move it.
    """

    def __init__(self, client: Client, address: str, root: Path, send: Send) -> None:
        self._client, self._address, self._send = client, address, send
        self._mark = root / f"cluster-{uuid.uuid4().hex[:12]}"
        self._threads: dict[Machine, int] = {}
        self._known: frozenset[str] | None = None  # None: not asked yet
        self._running: dict[Future[Reply], tuple[Task, str]] = {}
        root.mkdir(parents=True, exist_ok=True)
        self._mark.touch()
        client.subscribe_topic(TOPIC, partial(_hear, self._mark.name, send))

    def free(self) -> int:
        """Workers without a task, as the scheduler of Dask knows them now."""
        with _scheduler_errors(self._address):
            self._look()
        return len(self._idle())

    def submit(self, task: Task) -> None:
        """Bind ``task`` to an idle worker."""
        worker = self._idle()[0]
        config = remote.absolute(task.point.config)
        shared = SweepContext(self._mark.name, self._mark, self._threads)
        future = self._client.submit(
            remote.run,
            task,
            config,
            shared,
            pure=False,
            workers=[worker],
            allow_other_workers=False,
        )
        self._running[future] = task, worker

    def poll(self, seconds: float) -> list[tuple[Task, Reply]]:
        """Tasks that ended, and those whose workers are gone."""
        with _scheduler_errors(self._address):
            ended = [(future, _reply(future)) for future in _ended(list(self._running), seconds)]
            replies = [(self._running.pop(future)[0], reply) for future, reply in ended]
            known = self._look()
            lost = [f for f, (_, worker) in self._running.items() if worker not in known]
            self._client.cancel(lost)
        return [*replies, *((self._running.pop(f)[0], Reply(Status.killed)) for f in lost)]

    def close(self) -> None:
        """Cancel what is running; its workers stop at the end of the epoch."""
        if self._running:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(self._running))
        self._mark.unlink(missing_ok=True)

    def _idle(self) -> list[str]:
        busy = {worker for _, worker in self._running.values()}
        return sorted((self._known or frozenset()) - busy)

    def _look(self) -> frozenset[str]:
        """Ask who is there; where processes share cores, each gets its part of them."""
        known = frozenset(self._client.nthreads())
        if known == self._known:
            return known
        self._known = known
        found: dict[str, Machine] = self._client.run(remote.machine, on_error="ignore")
        for host, cores in set(found.values()):
            here = sum(h == host and bool({*cores} & {*c}) for h, c in found.values())
            self._threads[host, cores] = max(1, len(cores) // here)
        count = f"{len(known)} worker{'s' * (len(known) != 1)}"
        self._send(Event("", Kind.message, text=f"cluster {self._address}: {count}"))
        return known


def _hear(run: str, send: Send, stamped: tuple[float, dict[str, Any]]) -> None:
    """An event of a worker; those of other sweeps on the same cluster come along."""
    told = stamped[1]
    if told["run"] == run:
        names = {field.name for field in fields(Event)}
        plain = {name: value for name, value in told.items() if name in names}
        send(Event(**{**plain, "kind": Kind(told["kind"])}))


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


def _ended(running: list[Future[Reply]], seconds: float) -> list[Future[Reply]]:
    """Those that have ended, after ``seconds`` at most."""
    from distributed import wait

    if not running:
        time.sleep(seconds)
        return []
    try:
        return list(wait(running, timeout=seconds, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return []


def _reply(future: Future[Reply]) -> Reply:
    error = future.exception()
    if error is None:
        reply: Reply = future.result()
        return reply
    return Reply(Status.failed, f"{type(error).__name__}: {error}")
