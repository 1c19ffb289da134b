"""Helper processes with a pipe each, that end with a block of code.

with spawned(work, [(1,), (2,)]) as pipes:      # work(1, sender) and work(2, sender)
    pipes[0].recv()
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any

# fork is unsafe once torch has threads
CONTEXT: SpawnContext = multiprocessing.get_context("spawn")


@contextmanager
def spawned(
    target: Callable[..., None], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[list[Connection]]:
    """One process for each of ``arguments``; yields the receiving ends of their pipes.

    A pipe ends when its process does, killed or not. What still runs is terminated with the block.
    """
    processes, pipes = [], []
    try:
        with _deaf_to_interrupts():
            for given in arguments:
                receiver, sender = CONTEXT.Pipe(duplex=False)
                process = CONTEXT.Process(target=target, args=(*given, sender), daemon=True)
                process.start()
                sender.close()  # ours; with the process's own copy the pipe ends
                processes.append(process)
                pipes.append(receiver)
        yield pipes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which is their parent's business; it comes later."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
