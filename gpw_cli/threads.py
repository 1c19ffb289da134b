"""Batches shared among CPU threads.

    logits = each(compute, batches)      # compute(batch) of every batch, in their order

For small networks a batch a thread is faster than all threads on each operation: single operations
are too short to share among the cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(compute: Callable[[Item], Result], batches: Sequence[Item]) -> list[Result]:
    """``compute`` of every batch, in order, on as many threads as PyTorch may use.

    ``compute`` must be safe to run in several threads. PyTorch's number of threads is changed
    meanwhile, for the whole process.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(batches))
    if workers < 2:
        return [compute(batch) for batch in batches]
    share = threads // workers
    torch.set_num_threads(share)
    try:
        # each thread has a count of its own, too
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(share,)
        ) as pool:
            return list(pool.map(compute, batches))
    finally:
        torch.set_num_threads(threads)
