"""Helper processes with a pipe each.

with spawned(work, [(1,), (2,)]) as helpers:    # work(1, pipe) and work(2, pipe)
    helpers[0].pipe.recv()
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

# fork is unsafe once torch has threads
CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Helper:
    """A process and our end of its pipe, which ends when the process does, killed or not."""

    process: SpawnProcess
    pipe: Connection


def start(target: Callable[..., None], *arguments: Any) -> Helper:
    """A process that calls ``target(*arguments, pipe)``; it never sees Ctrl-C."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=target, args=(*arguments, theirs), daemon=True)
    with _interrupts_blocked():
        process.start()
    theirs.close()  # the process has its own copy, and the pipe ends with that one
    return Helper(process, ours)


def stop(helpers: Iterable[Helper]) -> None:
    """End what still runs of ``helpers``."""
    ended = list(helpers)
    for helper in ended:
        helper.process.terminate()
    for helper in ended:
        helper.process.join()
        helper.pipe.close()


@contextmanager
def spawned(
    target: Callable[..., None], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[list[Helper]]:
    """One process for each of ``arguments``; what still runs is ended with the block."""
    helpers: list[Helper] = []
    try:
        with _interrupts_blocked():
            for given in arguments:
                helpers.append(start(target, *given))
        yield helpers
    finally:
        stop(helpers)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes that start here inherit Ctrl-C blocked: it is their parent's business."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
