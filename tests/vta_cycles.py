"""VTA cycle by cycle: slow, written from the RTL's state machines, to hold the event-driven one to.

64-bit bus, DE10 bursts, default geometry. A unit is idle or counts; a load's beats pass the
memory (one cycle), VME (one), the load's own register (one) and its counter (one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
Times = list[tuple[int, int]]


@dataclass
class Port:
    """Five command slots, the memory's request queue, and what it delivers in the next cycle."""

    timing: VtaTiming
    slot: list[tuple[int, int] | None] = field(default_factory=lambda: [None] * 5)
    queue: list[tuple[int, int, int]] = field(default_factory=list)  # visible, beats, client
    tags: int = 0
    counter: int = 0
    left: int = 0  # beats of the burst in service
    client: int = 0
    output: int | None = None  # the client whose beat the memory shows in this cycle
    last: bool = False

    def step(self, cycle: int) -> None:
        """Decide this cycle's acceptance and the beat that the memory shows in the next."""
        offers = [c for c, slot in enumerate(self.slot) if slot is not None and slot[0] < cycle]
        accepted = bool(offers) and self.tags < self.timing.outstanding and not self.last
        visible = bool(self.queue) and self.queue[0][0] <= cycle
        if self.left == 0 and visible and self.counter == self.timing.read_latency:
            _, self.left, self.client = self.queue.pop(0)
        self.counter = min(self.counter + 1, self.timing.read_latency) if visible else 0
        self.tags -= self.last
        self.output, self.last = (self.client if self.left else None), self.left == 1
        self.left = max(0, self.left - 1)
        if accepted:
            slot = self.slot[offers[0]]
            assert slot is not None
            self.queue.append((cycle + 1, slot[1], offers[0]))
            self.slot[offers[0]], self.tags = None, self.tags + 1


@dataclass
class Load:
    """One load in flight: commands to send, beats to come, zero tiles to write."""

    client: int
    start: int
    bursts: list[int]
    delay: int
    zeros: int
    pipe: int  # cycles from VME's output until the beat is counted
    beats: int = 0
    seen: list[int] = field(default_factory=list)  # cycles in which beats are written

    def step(self, cycle: int, port: Port, arrived: bool) -> bool:
        """Whether the load is done in this cycle."""
        if arrived:
            self.seen.append(cycle + self.pipe - 1)
        done = not self.bursts and sum(c < cycle for c in self.seen) == self.beats
        if cycle >= self.start + self.pipe and self.zeros and cycle not in self.seen:
            self.zeros -= 1
            done = False  # the padding machine is idle the cycle after
        if self.bursts and cycle > self.start + self.delay and port.slot[self.client] is None:
            port.slot[self.client] = (cycle, self.bursts.pop(0))
        return done


def unit_of(insn: Insn) -> int:
    if not isinstance(insn, MemInsn):
        return COMPUTE
    if insn.opcode is Opcode.STORE:
        return STORE
    return LOAD if insn.memory_type in (MemType.INP, MemType.WGT) else COMPUTE


def bursts_of(insn: MemInsn, burst_bytes: int) -> list[list[int]]:
    """The 8-byte words of each burst, found one by one."""
    size, found = BYTES[insn.memory_type], []
    for row in range(insn.y_size):
        begin = (insn.dram_base + row * insn.x_stride) * size
        words = sorted({byte // 8 for byte in range(begin, begin + insn.x_size * size)})
        groups: dict[int, list[int]] = {}
        for word in words:
            groups.setdefault(word * 8 // burst_bytes, []).append(word)
        found += list(groups.values())
    return found


def simple_cycles(insn: Insn, burst_bytes: int) -> int:
    """Of what does not read memory."""
    if isinstance(insn, GemmInsn):
        return insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn) + 7
    if isinstance(insn, AluInsn):
        uops = insn.iter_out * insn.iter_in * (insn.uop_end - insn.uop_bgn)
        return uops * (1 if insn.use_imm else 2) + 7
    if isinstance(insn, FinishInsn) or insn.x_size == 0:
        return 2
    return 1 + sum(3 * (len(words) // 2) + 3 for words in bursts_of(insn, burst_bytes))


def load_of(insn: MemInsn, cycle: int, burst_bytes: int) -> Load:
    bursts = [len(words) for words in bursts_of(insn, burst_bytes)]
    sides = insn.x_pad_0 + insn.x_pad_1
    zeros = (insn.y_pad_0 + insn.y_pad_1) * (sides + insn.x_size) + insn.y_size * sides
    zeros += insn.y_size if insn.y_pad_1 and not sides else 0  # rows that the machine skips
    wide = insn.memory_type is MemType.UOP
    return Load(
        CLIENT[insn.memory_type],
        cycle,
        bursts,
        insn.y_pad_0,
        zeros,
        1 if wide else 2,
        sum(bursts),
    )


def walk(insns: Sequence[Insn], timing: VtaTiming) -> Times:
    """(start, end) of every instruction, as ``Schedule`` has them."""
    port, units = Port(timing), [unit_of(insn) for insn in insns]
    queues: list[list[tuple[int, int]]] = [[], [], []]  # (cycle of entry, number)
    running: list[Load | int | None] = [None] * 3  # a load, or the last cycle
    tokens = {"l2c": 0, "c2l": 0, "c2s": 0, "s2c": 0}
    pops = [{"pop_next": "c2l"}, {"pop_prev": "l2c", "pop_next": "s2c"}, {"pop_prev": "c2s"}]
    pushes = [{"push_next": "l2c"}, {"push_prev": "c2l", "push_next": "c2s"}, {"push_prev": "s2c"}]
    starts, ends = [0] * len(insns), [0] * len(insns)
    sent = read = batch = 0  # instructions handed over, beats read of the batch, its length
    state, wait, cycle, left, vme = "idle", 0, 0, len(insns), None
    while left:
        arrived, vme = vme, port.output  # VME shows a beat the cycle after the memory
        full = [len(queue) >= timing.queue_entries for queue in queues]
        posted: list[str] = []
        for unit, queue in enumerate(queues):
            now = running[unit]
            if now is None and queue and queue[0][0] < cycle:
                number = queue[0][1]
                insn = insns[number]
                needs = [t for flag, t in pops[unit].items() if getattr(insn, flag)]
                if all(tokens[t] for t in needs):
                    for token in needs:
                        tokens[token] -= 1
                    starts[number] = cycle
                    if isinstance(insn, MemInsn) and insn.opcode is Opcode.LOAD and insn.x_size:
                        running[unit] = load_of(insn, cycle, timing.burst_bytes)
                    else:
                        running[unit] = cycle + simple_cycles(insn, timing.burst_bytes) - 1
            elif now is not None:
                if isinstance(now, Load):
                    over = now.step(cycle, port, arrived == now.client)
                else:
                    over = now == cycle
                if over:
                    number = queue.pop(0)[1]
                    ends[number], running[unit], left = cycle + 1, None, left - 1
                    insn = insns[number]
                    posted += [t for flag, t in pushes[unit].items() if getattr(insn, flag)]
        if state == "idle" and sent < len(insns):
            batch, read, state = min(timing.fetch_batch, len(insns) - sent), 0, "read"
            port.slot[0] = (cycle, 2 * batch)
        elif state == "read":
            read += arrived == 0
            if read == 2 * batch:
                state, wait = "drain", batch
        elif state == "drain":
            if wait == 0:
                state = "idle"
            elif not full[units[sent]]:
                queues[units[sent]].append((cycle, sent))
                sent, wait = sent + 1, wait - 1
        for token in posted:
            tokens[token] += 1
        port.step(cycle)
        cycle += 1
    return list(zip(starts, ends, strict=True))
