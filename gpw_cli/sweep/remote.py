"""What runs on a worker of a Dask cluster: one task, in the store that all share.

client.submit(run, task, config, shared, pure=False).result()       # Reply(Status.done, ...)
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpw_cli.config.schema import Config
from gpw_cli.stages.inputs import NAMED_SOURCES
from gpw_cli.stages.pipeline import plan
from gpw_cli.stages.services import usable_cores
from gpw_cli.sweep.events import Event, Kind, Send
from gpw_cli.sweep.plan import Point
from gpw_cli.sweep.task import Reply, Status, Task, Worker, attempted
from gpw_cli.tracking.base import Destination

if TYPE_CHECKING:
    from distributed import Worker as DaskWorker

TOPIC = "gpw"
Machine = tuple[str, tuple[int, ...]]  # host name and usable cores

# Seeds and the number of threads belong to a process: even a worker with several task threads runs
# one task at a time.
_one_at_a_time = threading.Lock()
_worker = Worker()


@dataclass(frozen=True)
class SweepContext:
    """What the tasks of one sweep have in common.

    mark: a file beside the store, by which a worker knows that it sees the client's file system;
    threads: for one process on each machine.
    """

    id: str
    mark: Path
    threads: Mapping[Machine, int]


class Abandoned(BaseException):
    """The client is gone or has cancelled; the epoch's checkpoint is written, another goes on."""


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
            tracking=Destination(Path(), runtime.tracking).address
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


def run(task: Task, config: Config, shared: SweepContext) -> Reply:
    """Run the stages of ``task`` with ``config``, the point's own with absolute paths."""
    from distributed import get_worker

    where, cores = machine()
    if not shared.mark.is_file():
        text = f"{where} does not see {shared.mark.parent}: runtime.root must name a folder"
        return Reply(Status.misplaced, f"{text} that this machine and all workers share")
    threads = config.runtime.threads or shared.threads.get((where, cores), len(cores))
    config = replace(config, runtime=replace(config.runtime, threads=threads))
    send = _send_through(get_worker(), shared.id)
    with _one_at_a_time:
        return attempted(lambda: _checked(task, config, send))


def _checked(task: Task, config: Config, send: Send) -> Reply:
    if not _same_keys(task.point, config, task.until):
        text = f"{socket.gethostname()} plans other artifacts for {task.point.id}"
        return Reply(
            Status.misplaced, f"{text}: it has another version of gpw, or other input files"
        )
    return _worker.run(task, config, send)


def _same_keys(point: Point, config: Config, until: str) -> bool:
    keys = [step.key for step in plan(config, until)]
    return keys == [step.key for step in point.steps[: len(keys)]]


def _send_through(worker: DaskWorker, run_id: str) -> Send:
    """Events as messages of the cluster; at an epoch's end, whether anyone still waits for it."""
    key = worker.get_current_task()

    def send(event: Event) -> None:
        worker.log_event(TOPIC, {"run": run_id, **asdict(event), "kind": event.kind.value})
        task = worker.state.tasks.get(key)
        wanted = task is not None and task.state == "executing"
        if not wanted and event.kind in (Kind.stage, Kind.epoch):
            raise Abandoned

    return send
