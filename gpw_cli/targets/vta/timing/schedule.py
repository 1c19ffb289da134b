"""When each instruction starts and ends: the result of the simulation (pipeline.py).

    schedule.end.max()                 # cycles of the whole program
    schedule.batches[0].memory         # cycles for which FETCH waited for the shared port

Times are in cycles from FETCH's first read command.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpw_cli.arrays import Int64


@dataclass(frozen=True)
class Batch:
    """Instructions ``first`` to ``first + count - 1``, fetched from cycle ``begin`` to ``end``.

    FETCH spent ``memory`` of these cycles waiting for the shared port, ``blocked`` for a full
    queue.
    """

    first: int
    count: int
    begin: int
    end: int
    memory: int
    blocked: int

    def until(self, over: int) -> Batch:
        """The part of the batch before cycle ``over``."""
        end = min(self.end, over)
        memory = min(self.memory, end - self.begin)
        blocked = min(self.blocked, end - self.begin - memory)
        return replace(self, end=end, memory=memory, blocked=blocked)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The cycle in which each instruction is queued, starts, and has ended: int64 [n] each.

    All times are cut off at the end of the first FINISH, where the RTL's counter stops. FINISH
    waits only for the tokens that it pops, so other instructions may still be running then.
    ``read_beats``: beats that the memory delivered.
    """

    arrive: Int64
    start: Int64
    end: Int64
    batches: tuple[Batch, ...]
    read_beats: int
