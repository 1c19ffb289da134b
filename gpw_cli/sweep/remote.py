"""What runs on a worker of a Dask cluster: the stages of one task, in the store that all share.

    client.submit(make, task, run, pure=False).result()     # Reply("done", ...)

Nothing here raises for what is wrong with a point: a reply says it, and the client writes the
record, so that a worker needs no more than the store.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.config.schema import Config
from gpw_cli.errors import GpwError
from gpw_cli.plugins import blamed
from gpw_cli.stages.inputs import NAMED_SOURCES
from gpw_cli.stages.pipeline import plan, run
from gpw_cli.stages.services import Services, open_services, usable_cores
from gpw_cli.store.store import Busy
from gpw_cli.sweep.events import Event, Kind, Reporter, Send
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.results import done_record, last_accuracy
from gpw_cli.sweep.tasks import Task
from gpw_cli.tracking.base import Place

if TYPE_CHECKING:
    from distributed import Worker

TOPIC = "gpw"
Machine = tuple[str, tuple[int, ...]]  # host name and usable cores

# Seeds and the number of threads belong to a process: even a worker with several task threads makes
# one point at a time.
_one_at_a_time = threading.Lock()
_services: list[Services] = []  # the last one, with its pictures


@dataclass(frozen=True)
class Run:
    """What the tasks of one sweep have in common.

    mark: a file beside the store, by which a worker knows that it sees the client's file system;
    threads: for one process on each machine.
    """

    id: str
    mark: Path
    threads: Mapping[Machine, int]


@dataclass(frozen=True)
class Reply:
    """status: done, busy (another sweep is at it), failed, or misplaced (a worker that cannot work
    for this sweep); text, exit_code: why; record, accuracy: of a whole point that is done.
    """

    status: str
    text: str = ""
    record: Mapping[str, Any] | None = None
    accuracy: float | None = None
    exit_code: int = GpwError.exit_code


class Abandoned(BaseException):
    """The client has gone or cancelled; the epoch's checkpoint is written, another goes on."""


def machine() -> Machine:
    """Where this process runs."""
    return socket.gethostname(), usable_cores()


def absolute(config: Config) -> Config:
    """``config`` with every path made absolute, for a process with another working directory."""
    runtime, data = config.runtime, config.data
    source = config.pretrain.source
    return replace(
        config,
        runtime=replace(
            runtime,
            root=_path(runtime.root),
            results=_path(runtime.results),
            tracking=Place(Path(), runtime.tracking).address
            or (runtime.tracking and _path(runtime.tracking)),
        ),
        data=replace(data, root=data.root and _path(data.root)),
        pretrain=replace(
            config.pretrain, source=source if source in NAMED_SOURCES else _path(source)
        ),
        target=config.target.absolute(),
    )


def _path(text: str) -> str:
    return str(Path(text).absolute())


def make(task: Task, config: Config, of: Run) -> Reply:
    """Run the stages of ``task`` with ``config``, the point's own with absolute paths."""
    from distributed import get_worker

    worker = get_worker()
    reporter = Reporter(_send_through(worker, of.id))
    reporter.take(task.point.id)
    where, cores = machine()
    if not of.mark.is_file():
        text = f"{where} does not see {of.mark.parent}: runtime.root must name a folder"
        return Reply("misplaced", f"{text} that this machine and all workers share")
    threads = config.runtime.threads or of.threads.get((where, cores), len(cores))
    config = replace(config, runtime=replace(config.runtime, threads=threads))
    with _one_at_a_time:
        try:
            return _made(task, config, reporter)
        except Busy:
            return Reply("busy")
        except GpwError as error:
            return Reply("failed", str(error), exit_code=error.exit_code)
        except Exception as error:
            return Reply("failed", blamed(error) or f"{type(error).__name__}: {error}")


def _made(task: Task, config: Config, reporter: Reporter) -> Reply:
    if not _same_keys(task.point, config, task.until):
        text = f"{socket.gethostname()} plans other artifacts for {task.point.id}"
        return Reply("misplaced", f"{text}: it has another version of gpw, or other input files")
    if not _services or _services[0].runtime != config.runtime:
        _services[:] = [open_services(config, reporter)]
    services = _services[0]
    services.listener, services.store.warn = reporter, reporter.message
    artifacts = run(config, services, task.until, wait=False)
    if not task.whole:
        return Reply("done")
    return Reply("done", "", done_record(task.point, artifacts), last_accuracy(artifacts))


def _same_keys(point: Point, config: Config, until: str) -> bool:
    keys = [step.key for step in plan(config, until)]
    return keys == [step.key for step in point.steps[: len(keys)]]


def _send_through(worker: Worker, run_id: str) -> Send:
    """Events as messages of the cluster; at an epoch's end, whether anyone still waits for it."""
    key = worker.get_current_task()

    def send(event: Event) -> None:
        worker.log_event(TOPIC, {"run": run_id, **asdict(event), "kind": event.kind.value})
        task = worker.state.tasks.get(key)
        wanted = task is not None and task.state == "executing"
        if not wanted and event.kind in (Kind.stage, Kind.epoch):
            raise Abandoned

    return send
