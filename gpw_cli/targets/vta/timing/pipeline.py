"""The simulation of VTA's four modules: when each instruction starts and ends.

    schedule = run(work, timing)
    schedule.end.max()                 # cycles of the whole program

Cycle 0 is FETCH's first read command. FETCH reads a batch, passes one instruction per cycle to the
queues of LOAD, COMPUTE and STORE, and reads the next batch when the whole batch is in the queues
(on a bus of at least 128 bits, when all but two instructions are; those wait in registers). A
module runs its instructions in order. An instruction starts when it is in the queue and the tokens
that it pops are available; it pushes its tokens when it ends. ``end`` is the first cycle in which
the module is free again and another module sees the token. Sources: ``core/FetchVME64.scala``,
``FetchWideVME.scala``, ``Load.scala``, ``Compute.scala``, ``Store.scala``, ``Semaphore.scala``.

The simulation is event-driven: one event per instruction and one step per burst.
"""

from __future__ import annotations

import heapq

import numpy as np

from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.isa.geometry import INSN_BYTES
from gpw_cli.targets.vta.isa.modules import POPS, PUSHES, QUEUES, Module, queue_of
from gpw_cli.targets.vta.timing.memory_port import ReadPort
from gpw_cli.targets.vta.timing.occupancy import (
    CLIENT,
    FETCH_CLIENT,
    KINDS,
    LOAD_QUEUED,
    Occupancy,
    padding_end,
)
from gpw_cli.targets.vta.timing.schedule import Batch, Schedule

_FETCH = len(Module)
_FETCH_QUEUED = 2  # cycles from a read command until its burst is in the memory's queue
_START, _END = 0, 1  # kinds of events: an instruction may start; one has ended
_FOREVER = 1 << 60


def run(work: Occupancy, timing: VtaTiming) -> Schedule:
    """The schedule. Raises ProgramError for a deadlock, naming the instructions that wait."""
    simulation = _Simulation(work, timing)
    simulation.run()
    end = np.array(simulation.end, np.int64)
    over = int(end[work.finish] if work.finish >= 0 else end.max(initial=0))
    return Schedule(
        arrive=np.minimum(np.array(simulation.arrive, np.int64), over),
        start=np.minimum(np.array(simulation.start, np.int64), over),
        end=np.minimum(end, over),
        batches=tuple(batch.until(over) for batch in simulation.batches if batch.begin < over),
        read_beats=min(simulation.port.busy, over),
    )


class _Simulation:
    """The state of all modules at the time of the latest event."""

    def __init__(self, work: Occupancy, timing: VtaTiming) -> None:
        self.work, self.timing, self.port = work, timing, ReadPort(timing)
        self.count = len(work.unit)
        self.unit, self.kind = work.unit.tolist(), work.kind.tolist()
        self.cycles = work.cycles.tolist()
        self.pops, self.pushes = _queues(work, POPS), _queues(work, PUSHES)
        self.queue = [np.flatnonzero(work.unit == unit).tolist() for unit in Module]
        self.sent = [0] * len(Module)  # instructions that FETCH has put into the queue
        self.done = [0] * len(Module)  # instructions that have ended
        self.busy = [False] * len(Module)
        self.tokens = [0] * len(QUEUES)
        self.open: dict[int, int] = {}  # read client -> the load whose request is open
        self.arrive, self.start, self.end = ([0] * self.count for _ in range(3))
        self.events: list[tuple[int, int, int]] = []  # (cycle, unit, _START or _END)
        self.batches: list[Batch] = []
        self.dispatched = 0  # instructions that have left FETCH
        self.wide = timing.bus_bytes >= INSN_BYTES
        self.held = 2 if self.wide else 0  # instructions left when FETCH reads again
        self.batch_first, self.batch_end = 0, 0  # instruction numbers of the latest batch
        self.begin = 0  # cycle of its read command
        self.ready = 0  # cycle from which that batch can be dispatched
        self.here = 0  # instructions that FETCH has received
        self.slot = 0  # the earliest cycle in which FETCH can dispatch the next instruction
        self.blocked: int | None = None  # the unit whose queue is full

    def run(self) -> None:
        self._fetch(0)
        while True:
            delivered = self.port.serve(self.events[0][0] if self.events else _FOREVER)
            if delivered is not None:
                self._delivered(*delivered)
            elif not self.events:
                break
            else:
                cycle, unit, what = heapq.heappop(self.events)
                if unit == _FETCH:
                    self.here = self.batch_end
                    self._dispatch(cycle)
                elif what == _END:
                    self._finish(cycle, unit)
                else:
                    self._try_start(cycle, unit)
        if sum(self.done) < self.count:
            raise ProgramError(self._deadlock())

    def _fetch(self, cycle: int) -> None:
        """Requests the next batch, if there is one."""
        self.begin = cycle
        self.batch_first = self.batch_end
        self.batch_end = min(self.batch_first + self.timing.fetch_batch, self.count)
        if self.batch_end > self.batch_first:
            self.port.request(FETCH_CLIENT, cycle + _FETCH_QUEUED - 1, (self._beats(),))

    def _delivered(self, client: int, cycle: int) -> None:
        """The last beat of the client's request left the memory before ``cycle``."""
        if client == FETCH_CLIENT:
            self.ready = cycle + self._fetch_overhead() - _FETCH_QUEUED - 1
            heapq.heappush(self.events, (self.ready, _FETCH, _START))
            return
        number, work = self.open.pop(client), self.work
        padding = work.padding[number]
        if any(padding):
            served = zip(self.port.begins[client], work.bursts[number], strict=True)
            cycle = max(cycle, padding_end(self.start[number], padding, served))
        end = cycle + int(work.tail[number])
        heapq.heappush(self.events, (end, self.unit[number], _END))

    def _fetch_overhead(self) -> int:
        return self.timing.wide_fetch_overhead if self.wide else self.timing.fetch_overhead

    def _beats(self) -> int:
        """Beats of the batch that is being fetched."""
        count = self.batch_end - self.batch_first
        return -(-count * INSN_BYTES // self.timing.bus_bytes)

    def _dispatch(self, cycle: int) -> None:
        """Moves an instruction per cycle to the queues, until the batch ends or a queue is full."""
        self.blocked, self.slot = None, max(cycle, self.slot)
        self._read_ahead()
        while self.dispatched < self.here:
            number = self.dispatched
            unit = self.unit[number]
            if self.sent[unit] - self.done[unit] >= self.timing.queue_entries:
                self.blocked = unit  # _finish calls again
                return
            self.arrive[number] = self.slot + 1
            self.sent[unit] += 1
            self.dispatched += 1
            self._try_start(cycle, unit)
            self.slot += 1
            self._read_ahead()

    def _read_ahead(self) -> None:
        """Reads the next batch once at most ``held`` instructions of this one are left."""
        arrived = self.here == self.batch_end > self.batch_first
        if not arrived or self.dispatched < self.batch_end - self.held:
            return
        count, last = self.batch_end - self.batch_first, self.batch_end - self.held - 1
        left = self.arrive[last] if last >= 0 else 0
        end = max(self.ready + count, left + self.held) + 1
        alone = self._fetch_overhead() - 1 + self.timing.read_latency + self._beats()
        memory = max(0, self.ready - self.begin - alone)
        blocked = end - 1 - count - self.ready
        self.batches.append(Batch(self.batch_first, count, self.begin, end, memory, blocked))
        self._fetch(end)

    def _try_start(self, cycle: int, unit: int) -> None:
        """Starts the unit's next instruction if the unit is idle and the tokens are available."""
        position = self.done[unit]
        if self.busy[unit] or position >= self.sent[unit]:
            return
        number = self.queue[unit][position]
        if self.arrive[number] > cycle:
            heapq.heappush(self.events, (self.arrive[number], unit, _START))
            return
        if not all(self.tokens[queue] for queue in self.pops[number]):
            return
        for queue in self.pops[number]:
            self.tokens[queue] -= 1
        self.busy[unit], self.start[number] = True, cycle
        bursts = self.work.bursts[number]
        if bursts:
            client = CLIENT[self.kind[number]]
            ready = cycle + LOAD_QUEUED - 1 + int(self.work.delay[number])
            self.open[client] = number
            self.port.request(client, ready, bursts)
        else:
            heapq.heappush(self.events, (cycle + self.cycles[number], unit, _END))

    def _finish(self, cycle: int, unit: int) -> None:
        number = self.queue[unit][self.done[unit]]
        self.end[number], self.busy[unit] = cycle, False
        self.done[unit] += 1
        for queue in self.pushes[number]:
            self.tokens[queue] = min(self.tokens[queue] + 1, self.timing.max_tokens)
            self._try_start(cycle, QUEUES[queue].to)
        self._try_start(cycle, unit)
        if self.blocked == unit:
            self._dispatch(cycle)

    def _deadlock(self) -> str:
        waits = []
        for unit in Module:
            position = self.done[unit]
            if position < self.sent[unit]:
                number = self.queue[unit][position]
                missing = [QUEUES[q].source.name for q in self.pops[number] if not self.tokens[q]]
                what = f"{KINDS[self.kind[number]]} in {unit.name}"
                waits.append((number, f"{number} ({what}) for a token of {' and '.join(missing)}"))
        text = "; ".join(f"instruction {wait}" for _, wait in sorted(waits))
        if self.blocked is not None:
            text += f"; FETCH for room in the queue of {Module(self.blocked).name}"
        return f"deadlock in cycle {max(self.end)}, waiting forever: {text}"


def _queues(work: Occupancy, flags: tuple[str, str]) -> list[tuple[int, ...]]:
    """The indices in QUEUES that each instruction pops from or pushes to, by ``flags``."""
    table = [
        tuple(
            QUEUES.index(queue)
            for bit, flag in enumerate(flags)
            if code >> bit & 1 and (queue := queue_of(module, flag)) is not None
        )
        for module in Module
        for code in range(4)
    ]
    prev, after = (work.flags[flag] for flag in flags)
    return [table[code] for code in (4 * work.unit + prev + 2 * after).tolist()]
