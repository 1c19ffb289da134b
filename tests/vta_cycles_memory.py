"""The memory side of the walk in vta_cycles.py: VME, its memory, loads with padding, stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gpw_cli.targets.vta.config import VtaTiming
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.instructions import MemInsn, MemType

CLIENT = {MemType.UOP: 1, MemType.INP: 2, MemType.WGT: 3, MemType.ACC: 4}


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

    def __init__(self, memory_type: MemType, timing: VtaTiming, spec: VtaSpec) -> None:
        self.size = int(getattr(spec, f"{memory_type.name.lower()}_elem_bytes"))
        self.client, self.timing = CLIENT[memory_type], timing
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

    def __init__(self, timing: VtaTiming, spec: VtaSpec) -> None:
        self.timing, self.size = timing, spec.out_elem_bytes
        self.blocks = max(1, self.size // timing.bus_bytes)  # beats of an element

    def start(self, insn: MemInsn) -> None:
        self.commands = ReadCommands(insn, self.size, self.timing)
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
