"""VTA cycle by cycle: slow, every register of the RTL that decides when something happens.

Written from hardware/chisel of apache/tvm-vta at d4a15f6, one class a Chisel module, and from
nothing of gpw's timing model, which it is there to contradict. Each ``step`` is one clock cycle: it
reads the registers, then writes them. Cycle 0 shows FETCH's first read command; the RTL's counter
runs from the cycle before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from vta_cycles_memory import TensorLoad, TensorStore, Vme
from vta_programs import vta_spec

from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import (
    AluInsn,
    FinishInsn,
    GemmInsn,
    Insn,
    MemInsn,
    MemType,
    Opcode,
)

LOAD, COMPUTE, STORE = range(3)
INSN_BYTES = 16
DEFAULT = vta_spec()


@dataclass(frozen=True)
class Walk:
    """``times``: (start, end) of each instruction, as ``Schedule`` has them."""

    times: list[tuple[int, int]]
    cycles: int


def unit_of(insn: Insn) -> int:
    if not isinstance(insn, MemInsn):
        return COMPUTE
    if insn.opcode is Opcode.STORE:
        return STORE
    return LOAD if insn.memory_type in (MemType.INP, MemType.WGT) else COMPUTE


class Arithmetic:
    """The pipelined ``TensorGemm`` and ``TensorAlu``: index generator and micro-ops in flight."""

    def start(self, insn: GemmInsn | AluInsn) -> None:
        self.left = insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn)
        self.two = isinstance(insn, AluInsn) and not insn.use_imm
        self.stutter = False
        self.pipe = [False] * 4
        self.in_flight = 0
        self.state = "idle"  # for the cycle in which start passes a register

    def step(self) -> bool:
        if self.state == "wait" and self.in_flight == 0:
            return True
        written = self.pipe.pop()
        valid = False
        if self.state == "run":
            valid = not self.two or self.stutter
            self.stutter = self.two and not valid
            self.left -= valid
            if self.left == 0:
                self.state = "wait"
        elif self.state == "idle":
            self.state = "run"
        self.pipe.insert(0, valid)
        self.in_flight += valid - written
        return False


class Semaphore:
    def __init__(self, most: int) -> None:
        self.count, self.most = 0, most

    def step(self, post: bool, wait: bool) -> None:
        if post and not wait:
            self.count = min(self.count + 1, self.most)
        elif wait and not post:
            self.count = max(self.count - 1, 0)


class Fetch64:
    """``FetchVME64``."""

    def __init__(self, units: Sequence[int], timing: VtaTiming) -> None:
        self.units, self.batch = units, timing.burst_beats // 2
        self.state = "command"
        self.sent = self.beats = 0
        self.ask = min(self.batch, len(units))  # instructions of this batch
        self.left = 0  # of these, in inst_q

    def step(self, vme: Vme, room: Sequence[bool], sent: list[tuple[int, int]]) -> int | None:
        """The number of the instruction that leaves in this cycle."""
        leaves = None
        if self.state == "command":
            sent.append((0, 2 * self.ask))
            self.state, self.beats = "read", 0
        elif self.state == "read":
            self.beats += vme.data == 0
            if self.beats == 2 * self.ask:
                self.state, self.left = "drain", self.ask
        elif self.state == "drain":
            if self.left == 0:
                self.ask = min(self.batch, len(self.units) - self.sent)
                self.state = "command" if self.ask else "idle"
            elif room[self.units[self.sent]]:
                leaves, self.sent, self.left = self.sent, self.sent + 1, self.left - 1
        return leaves


class FetchWide:
    """``FetchWideVME``: a queue in memory and two instructions in ``readInstrPipe``."""

    def __init__(self, units: Sequence[int], timing: VtaTiming) -> None:
        self.units, self.batch, self.bus = units, timing.burst_beats, timing.bus_bytes
        self.state = "read"
        self.started = True  # the command may be sent
        self.ask = min(self.batch, len(units))
        self.asked = False
        self.in_flight = 0
        self.pipe_valid = False
        self.queued = self.read = 0  # instructions in the queue; read from it altogether
        self.pipe: deque[int] = deque()

    def step(self, vme: Vme, room: Sequence[bool], sent: list[tuple[int, int]]) -> int | None:
        data, self.pipe_valid = self.pipe_valid, vme.data == 0
        enters = self.state == "drain" and self.queued > 0 and len(self.pipe) < 2
        leaves = None
        if self.pipe and room[self.units[self.pipe[0]]]:
            leaves = self.pipe[0]
        fired = 0
        if self.state == "read":
            if not self.started:
                self.started = True  # vmeStart
            elif not self.asked:
                fired = -(-self.ask * INSN_BYTES // self.bus)
                sent.append((0, fired))
                self.asked = True
            elif self.in_flight == 0:
                self.state = "drain"
        elif self.state == "drain" and self.queued == 0:
            self.ask = min(self.batch, len(self.units) - self.read)
            self.state = "read" if self.ask else "idle"
            self.started = self.asked = False
        if data and self.in_flight == 1:
            self.queued = self.ask  # nothing is read from the queue before the last beat
        self.in_flight += fired - data
        if enters:
            self.pipe.append(self.read)
            self.read, self.queued = self.read + 1, self.queued - 1
        if leaves is not None:
            self.pipe.popleft()
        return leaves


class Unit:
    """``Load``, ``Compute`` or ``Store``: its queue, its semaphores and what it runs."""

    def __init__(
        self, number: int, timing: VtaTiming, spec: VtaSpec, insns: Sequence[Insn]
    ) -> None:
        self.number, self.insns, self.room = number, insns, timing.queue_entries
        self.queue: deque[int] = deque()
        self.state = "idle"
        kinds = {LOAD: (MemType.INP, MemType.WGT), COMPUTE: (MemType.UOP, MemType.ACC), STORE: ()}
        self.loads = {kind: TensorLoad(kind, timing, spec) for kind in kinds[number]}
        self.store, self.arithmetic = TensorStore(timing, spec), Arithmetic()
        self.tokens = {
            side: Semaphore(timing.max_tokens)
            for side, peer in (("prev", number - 1), ("next", number + 1))
            if 0 <= peer <= STORE
        }

    def step(self, vme: Vme, sent: list[tuple[int, int]]) -> tuple[str, list[str], list[str]]:
        """(what happened: "", "start" or "done"; sides that were waited for; sides posted to)."""
        if self.state == "idle":
            if not self.queue:
                return "", [], []
            insn = self.insns[self.queue[0]]
            waits = [side for side in self.tokens if getattr(insn, f"pop_{side}")]
            if not all(self.tokens[side].count for side in waits):
                return "", [], []
            self._start(insn)
            return "start", waits, []
        insn = self.insns[self.queue[0]]
        if not self._run(insn, vme, sent):
            return "", [], []
        self.state = "idle"
        return "done", [], [side for side in self.tokens if getattr(insn, f"push_{side}")]

    def _start(self, insn: Insn) -> None:
        self.state = "run"
        if isinstance(insn, MemInsn):
            if insn.x_size == 0:
                self.state = "sync"
            elif insn.opcode is Opcode.STORE:
                self.store.start(insn)
            else:
                self.loads[insn.memory_type].start(insn)
        elif not isinstance(insn, FinishInsn):
            self.arithmetic.start(insn)

    def _run(self, insn: Insn, vme: Vme, sent: list[tuple[int, int]]) -> bool:
        if self.state == "sync" or isinstance(insn, FinishInsn):
            return True
        if not isinstance(insn, MemInsn):
            return self.arithmetic.step()
        if insn.opcode is Opcode.STORE:
            return self.store.step()
        return self.loads[insn.memory_type].step(vme, sent)


def walk(
    insns: Sequence[Insn], timing: VtaTiming, spec: VtaSpec = DEFAULT, limit: int = 10**6
) -> Walk:
    """Runs until FINISH is done, or every instruction where there is none."""
    where = [unit_of(insn) for insn in insns]
    fetch = (FetchWide if timing.bus_bytes >= INSN_BYTES else Fetch64)(where, timing)
    units, vme = [Unit(number, timing, spec, insns) for number in range(3)], Vme(timing)
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    cycle, finished = 0, False
    while not finished and len(ends) < len(insns):
        assert cycle < limit, f"deadlock: {len(ends)} of {len(insns)} instructions ended"
        sent: list[tuple[int, int]] = []
        room = [len(unit.queue) < unit.room for unit in units]
        waits: list[tuple[int, str]] = []
        posts: list[tuple[int, str]] = []
        ended: list[int] = []
        for unit in units:
            what, waited, posted = unit.step(vme, sent)
            if what:
                number = unit.queue[0]
                (starts if what == "start" else ends)[number] = cycle + (what == "done")
                waits += [(unit.number, side) for side in waited]
                for side in posted:  # my "next" is my neighbour's "prev"
                    peer, mine = (1, "prev") if side == "next" else (-1, "next")
                    posts.append((unit.number + peer, mine))
                if what == "done":
                    ended.append(unit.number)
                    finished |= isinstance(insns[number], FinishInsn)
        leaves = fetch.step(vme, room, sent)
        for key in {*posts, *waits}:
            units[key[0]].tokens[key[1]].step(key in posts, key in waits)
        for number in ended:
            units[number].queue.popleft()
        if leaves is not None:
            units[where[leaves]].queue.append(leaves)
        vme.step(sent)
        cycle += 1
    times = [(starts.get(i, cycle), ends.get(i, cycle)) for i in range(len(insns))]
    return Walk(times, cycle)
