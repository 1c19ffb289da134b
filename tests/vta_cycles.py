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

from gpw_cli.config.target import VtaTiming
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
BYTES = {MemType.UOP: 4, MemType.INP: 16, MemType.WGT: 256, MemType.ACC: 64, MemType.OUT: 16}
CLIENT = {MemType.UOP: 1, MemType.INP: 2, MemType.WGT: 3, MemType.ACC: 4}
INSN_BYTES = 16


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


class Vme:
    """``VME.scala`` with the memory of ``VTAMemDPI.scala`` behind it, reading only."""

    def __init__(self, timing: VtaTiming) -> None:
        self.latency = timing.read_latency
        self.slot: list[int | None] = [None] * 5  # VMEcmd_Qs: beats asked for
        self.tags = timing.outstanding
        self.requests: deque[tuple[int, int]] = deque()  # dpiReqQueue: (client, beats)
        self.counter = 0
        self.reading = False  # rstate
        self.ar_len = 0
        self.left = 0  # beats that the memory device still has of its request
        self.sender = 0
        self.r: tuple[int, bool] | None = None  # what it shows now: (client, last)
        self.data: int | None = None  # the client that sees a beat in this cycle

    def step(self, commands: Sequence[tuple[int, int]]) -> None:
        """``commands``: (client, beats) that find their slot empty in this cycle."""
        r, ends = self.r, self.r is not None and self.r[1]
        accepted = None
        if self.tags and not ends:
            accepted = next((c for c in range(5) if self.slot[c] is not None), None)
        valid = bool(self.requests)
        take = valid and not self.reading and self.counter == self.latency
        self.counter = min(self.counter + 1, self.latency) if valid else 0
        if self.reading:
            if r is not None:
                self.reading = self.ar_len != 1
                self.ar_len -= self.ar_len != 0
        elif take:
            self.sender, self.left = self.requests.popleft()
            self.ar_len = self.left - 1
            self.reading = self.ar_len != 0
        self.data = None if r is None else r[0]
        if self.left:
            self.left -= 1
            self.r = (self.sender, self.left == 0)
        else:
            self.r = None
        self.tags += ends
        if accepted is not None:
            beats = self.slot[accepted]
            assert beats is not None
            self.requests.append((accepted, beats))
            self.slot[accepted] = None
            self.tags -= 1
        for client, beats in commands:
            assert self.slot[client] is None
            self.slot[client] = beats


class ReadCommands:
    """``GenVMECmd`` and ``GenVMECmdWide``: which command is offered in this cycle."""

    def __init__(self, insn: MemInsn, elem_bytes: int, timing: VtaTiming) -> None:
        self.insn, self.size, self.bus = insn, elem_bytes, timing.bus_bytes
        self.most, self.most_bytes = timing.burst_beats, timing.burst_bytes
        self.padded = 0  # rows of padding above that were counted
        self.row = self.read = 0
        self.done = False

    def offer(self) -> int | None:
        """Beats, unless rows above are still being counted."""
        if self.done or self.padded < self.insn.y_pad_0:
            return None
        address = (self.insn.dram_base + self.row * self.insn.x_stride) * self.size
        first = address // self.bus * self.bus
        lines = -(-(address - first + self.insn.x_size * self.size) // self.bus)
        most = self.most
        if self.read == 0:
            most = (self.most_bytes - first % self.most_bytes) // self.bus
        self.lines = lines
        return min(most, lines - self.read)

    def step(self, fired: int | None) -> None:
        self.padded += self.padded < self.insn.y_pad_0
        if fired is None:
            return
        self.read += fired
        if self.read == self.lines:
            self.read, self.row = 0, self.row + 1
            self.done = self.row == self.insn.y_size


IDLE, TOP, LEFT, RIGHT, BOTH, SKIP, BOTTOM = range(7)


class ZeroPadding:
    """``ZeroPadding`` of ``TensorLoadNarrowVME.scala``, without the addresses."""

    def __init__(self) -> None:
        self.state = IDLE
        self.row = self.col = 0

    def start(self, insn: MemInsn) -> None:
        self.insn, self.row, self.col = insn, 0, 0
        left, right = insn.x_pad_0, insn.x_pad_1
        if not left and right and not insn.y_pad_0:
            self.col = insn.x_size
        self.state = TOP if insn.y_pad_0 else self._below_top()

    def _below_top(self) -> int:
        left, right = self.insn.x_pad_0, self.insn.x_pad_1
        if left or right:
            return BOTH if left and right else LEFT if left else RIGHT
        return SKIP if self.insn.y_pad_1 else IDLE

    def step(self, can_write: bool) -> None:
        state, insn = self.state, self.insn
        if state == IDLE or not (can_write or state == SKIP):
            return
        left, right = insn.x_pad_0, insn.x_pad_1
        last = left + insn.x_size + right - 1
        line_end = self.col == (left - 1 if state == LEFT else last) or state == SKIP
        last_data_row = self.row == insn.y_pad_0 + insn.y_size - 1
        if state == TOP and line_end and self.row == insn.y_pad_0 - 1:
            self.col = insn.x_size if right and not left else 0
            self.state = self._below_top()
        elif state in (LEFT, RIGHT, BOTH, SKIP) and line_end and last_data_row:
            self.col, self.state = 0, BOTTOM if insn.y_pad_1 else IDLE
        elif (
            state == BOTTOM
            and line_end
            and (self.row == insn.y_pad_0 + insn.y_size + insn.y_pad_1 - 1)
        ):
            self.state = IDLE
        elif line_end:
            self.col = left + insn.x_size if state == RIGHT else 0
        elif state == BOTH and self.col == left - 1:
            self.col += insn.x_size + 1
        else:
            self.col += 1
        self.row += line_end


class TensorLoad:
    """``TensorLoadNarrowVME`` and, where an element fits into a beat, ``TensorLoadWideVME``."""

    def __init__(self, memory_type: MemType, timing: VtaTiming) -> None:
        self.size, self.client, self.timing = BYTES[memory_type], CLIENT[memory_type], timing
        self.narrow = timing.bus_bytes < self.size
        self.busy = False
        self.pipe = self.starting = False  # vmeDataFirePipe, and start one cycle later
        self.in_flight = 0
        self.padding = ZeroPadding()

    def start(self, insn: MemInsn) -> None:
        """In this cycle; the first step is in the next one."""
        self.busy, self.insn, self.in_flight = True, insn, 0
        self.commands = ReadCommands(insn, self.size, self.timing)
        self.starting = self.narrow
        if not self.narrow:
            self.padding.start(insn)

    def step(self, vme: Vme, sent: list[tuple[int, int]]) -> bool:
        """Whether it is done in this cycle."""
        valid = vme.data == self.client
        data, self.pipe = (self.pipe, valid) if self.narrow else (valid, False)
        idle = self.padding.state == IDLE and not self.starting
        done = self.in_flight == 0 and self.commands.done and idle
        if self.starting:
            self.padding.start(self.insn)
            self.starting = False
        else:
            self.padding.step(not data)
        fired = self.commands.offer() if vme.slot[self.client] is None else None
        if fired is not None:
            sent.append((self.client, fired))
        self.commands.step(fired)
        self.in_flight += (fired or 0) - data
        self.busy = not done
        return done


class TensorStore:
    """``TensorStoreNarrowVME`` or ``Wide``, ``VME``'s writer and the memory's, one burst a time."""

    def __init__(self, timing: VtaTiming) -> None:
        self.timing = timing
        size = BYTES[MemType.OUT]
        self.blocks = max(1, size // timing.bus_bytes)  # beats of an element

    def start(self, insn: MemInsn) -> None:
        self.commands = ReadCommands(insn, BYTES[MemType.OUT], self.timing)
        self.state, self.wstate, self.memory = "cmd", "idle", "idle"
        self.beats = self.count = 0

    def step(self) -> bool:
        state, wstate, memory = self.state, self.wstate, self.memory
        if state == "cmd" and wstate == "idle":
            beats = self.commands.offer()
            assert beats is not None
            self.commands.step(beats)
            self.beats, self.count, self.state, self.wstate = beats, 0, "data", "address"
        if wstate == "address":
            self.memory = {"idle": "address", "address": "data"}[memory]
            self.wstate = "data" if memory == "address" else wstate
        if wstate == "data" and state == "data":
            self.count += 1
            if self.count == self.beats:
                self.state, self.wstate, self.memory = "ack", "response", "response"
            elif self.blocks > 1 and self.count % self.blocks == 0:
                self.state = "read"
        if state == "read":
            self.state = "data"
        if wstate == "response":
            self.state, self.wstate, self.memory = "cmd", "idle", "idle"
            return self.commands.done
        return False


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

    def __init__(self, number: int, timing: VtaTiming, insns: Sequence[Insn]) -> None:
        self.number, self.insns, self.room = number, insns, timing.queue_entries
        self.queue: deque[int] = deque()
        self.state = "idle"
        kinds = {LOAD: (MemType.INP, MemType.WGT), COMPUTE: (MemType.UOP, MemType.ACC), STORE: ()}
        self.loads = {kind: TensorLoad(kind, timing) for kind in kinds[number]}
        self.store, self.arithmetic = TensorStore(timing), Arithmetic()
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


def walk(insns: Sequence[Insn], timing: VtaTiming, limit: int = 10**6) -> Walk:
    """Runs until FINISH is done, or every instruction where there is none."""
    where = [unit_of(insn) for insn in insns]
    fetch = (FetchWide if timing.bus_bytes >= INSN_BYTES else Fetch64)(where, timing)
    units, vme = [Unit(number, timing, insns) for number in range(3)], Vme(timing)
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
        for unit in units:
            for side, semaphore in unit.tokens.items():
                key = (unit.number, side)
                semaphore.step(key in posts, key in waits)
        for number in ended:
            units[number].queue.popleft()
        if leaves is not None:
            units[where[leaves]].queue.append(leaves)
        vme.step(sent)
        cycle += 1
    times = [(starts.get(i, cycle), ends.get(i, cycle)) for i in range(len(insns))]
    return Walk(times, cycle)
