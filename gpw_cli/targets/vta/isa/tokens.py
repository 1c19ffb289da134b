"""In which order a program's instructions may run: queues, dependency tokens, vector clocks.

    order = linearise(insns)       # raises ProgramError on a deadlock or a token left over
    for number in order.sequence: ...

Fetch hands the instructions in stream order to three modules, each with its own in-order queue:
LOAD (inp, wgt), COMPUTE (uop and acc loads, GEMM, ALU, FINISH) and STORE. Four token queues link
neighbours. An instruction waits for the tokens it pops and pushes when it completes.
Source: VTA's ``hardware/chisel`` (``core/Semaphore.scala``: 8-bit counters; ``core/Configs.scala``:
512 instructions a queue).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa.instructions import FinishInsn, Insn, MemInsn, MemType, Opcode

QUEUE_DEPTH = 512  # instructions a module's queue holds
MAX_TOKENS = 255  # what an 8-bit token counter holds


class Module(IntEnum):
    """The three modules that run instructions."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


Clock = tuple[int, int, int]

#: (flag, the module that has it) -> token queue, named by its two ends.
_POPS = {
    Module.LOAD: (("pop_prev", None), ("pop_next", "compute->load")),
    Module.COMPUTE: (("pop_prev", "load->compute"), ("pop_next", "store->compute")),
    Module.STORE: (("pop_prev", "compute->store"), ("pop_next", None)),
}
_PUSHES = {
    Module.LOAD: (("push_prev", None), ("push_next", "load->compute")),
    Module.COMPUTE: (("push_prev", "compute->load"), ("push_next", "compute->store")),
    Module.STORE: (("push_prev", "store->compute"), ("push_next", None)),
}
_READER = {
    "load->compute": Module.COMPUTE,
    "store->compute": Module.COMPUTE,
    "compute->load": Module.LOAD,
    "compute->store": Module.STORE,
}


@dataclass(frozen=True)
class Order:
    """One legal order and what is certain in every legal order.

    ``sequence``: instruction numbers, each after all that it waits for. ``clock[n]``: how many
    instructions of each module have certainly completed when instruction n starts. ``index[n]``:
    how many of its own module run before it.
    """

    sequence: tuple[int, ...]
    clock: tuple[Clock, ...]
    index: tuple[int, ...]


def module_of(insn: Insn) -> Module:
    """The module that runs ``insn``."""
    if insn.opcode == Opcode.STORE:
        return Module.STORE
    if isinstance(insn, MemInsn) and insn.memory_type in (MemType.INP, MemType.WGT):
        return Module.LOAD
    return Module.COMPUTE


def where(number: int, insn: Insn) -> str:
    """How an error names an instruction."""
    return f"instruction {number} ({insn.opcode.name})"


def linearise(insns: Sequence[Insn]) -> Order:
    """Run the token queues alone. Raises ProgramError naming the instruction that breaks a rule.

    Rules: a program that ends with its only FINISH, which waits for everything; flags only towards
    a neighbour; no deadlock with 512-entry queues; at most 255 tokens in a queue; none left over.
    """
    if not insns or not isinstance(insns[-1], FinishInsn):
        raise ProgramError(f"instruction {max(len(insns) - 1, 0)}: the program must end in FINISH")
    return _Tokens(insns).run()


class _Tokens:
    """The state of the three queues and the four token queues."""

    def __init__(self, insns: Sequence[Insn]) -> None:
        self.insns = insns
        self.modules = [module_of(insn) for insn in insns]
        self.waiting: dict[Module, deque[int]] = {module: deque() for module in Module}
        self.fetched = 0
        self.tokens: dict[str, deque[tuple[int, Clock]]] = {name: deque() for name in _READER}
        self.pushed = dict.fromkeys(_READER, 0)
        self.popped: dict[str, list[int]] = {name: [] for name in _READER}  # index of each popper
        self.now: dict[Module, Clock] = dict.fromkeys(Module, (0, 0, 0))
        self.clock: list[Clock] = [(0, 0, 0)] * len(insns)
        self.index = [0] * len(insns)

    def run(self) -> Order:
        sequence: list[int] = []
        for number, insn in enumerate(self.insns):
            self._check_flags(number, insn)
        while len(sequence) < len(self.insns):
            self._fetch()
            heads = [queue[0] for queue in self.waiting.values() if queue]
            ready = [number for number in heads if self._missing(number) is None]
            if not ready:
                raise self._deadlock(heads)
            sequence.append(self._step(min(ready)))
        self._check_end()
        return Order(tuple(sequence), tuple(self.clock), tuple(self.index))

    def _check_flags(self, number: int, insn: Insn) -> None:
        module = self.modules[number]
        for flag, queue in (*_POPS[module], *_PUSHES[module]):
            if queue is None and getattr(insn, flag):
                raise ProgramError(
                    f"{where(number, insn)}: {flag} is set, but {module.name} has no such neighbour"
                )
        if isinstance(insn, FinishInsn) and number != len(self.insns) - 1:
            raise ProgramError(f"{where(number, insn)}: FINISH before the end of the program")

    def _fetch(self) -> None:
        """Move instructions to their queues; a full queue blocks all that follow."""
        while self.fetched < len(self.insns):
            queue = self.waiting[self.modules[self.fetched]]
            if len(queue) >= QUEUE_DEPTH:
                return
            queue.append(self.fetched)
            self.fetched += 1

    def _missing(self, number: int) -> str | None:
        """The token queue that instruction ``number`` waits for; None if it can start."""
        for flag, queue in _POPS[self.modules[number]]:
            if queue is not None and getattr(self.insns[number], flag) and not self.tokens[queue]:
                return queue
        return None

    def _step(self, number: int) -> int:
        insn, module = self.insns[number], self.modules[number]
        self.waiting[module].popleft()
        start = self.now[module]
        self.index[number] = start[module]
        for flag, queue in _POPS[module]:
            if queue is not None and getattr(insn, flag):
                self.popped[queue].append(start[module])
                _, pushed = self.tokens[queue].popleft()
                start = _latest(start, pushed)
        self.clock[number] = start
        done = _latest(start, _one_more(start, module))
        self.now[module] = done
        for flag, queue in _PUSHES[module]:
            if queue is not None and getattr(insn, flag):
                self._push(queue, number, start, done)
        return number

    def _push(self, queue: str, number: int, start: Clock, done: Clock) -> None:
        self.tokens[queue].append((number, done))
        self.pushed[queue] += 1
        surely_popped = bisect_left(self.popped[queue], start[_READER[queue]])
        if self.pushed[queue] - surely_popped > MAX_TOKENS:
            raise ProgramError(
                f"{where(number, self.insns[number])}: may push token "
                f"{self.pushed[queue] - surely_popped} into {queue}, which holds {MAX_TOKENS}"
            )

    def _deadlock(self, heads: list[int]) -> ProgramError:
        number = min(heads)
        return ProgramError(
            f"{where(number, self.insns[number])}: deadlock, no instruction can push the "
            f"{self._missing(number)} token it waits for"
        )

    def _check_end(self) -> None:
        for queue, tokens in self.tokens.items():
            if tokens:
                number = tokens[0][0]
                raise ProgramError(
                    f"{where(number, self.insns[number])}: its {queue} token is never popped "
                    f"({len(tokens)} left over)"
                )
        last = len(self.insns) - 1
        for module in (Module.LOAD, Module.STORE):
            count = self.modules.count(module)
            if self.clock[last][module] != count:
                raise ProgramError(
                    f"{where(last, self.insns[last])}: does not wait for the last "
                    f"{count - self.clock[last][module]} instructions of {module.name}"
                )


def _latest(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])


def _one_more(clock: Clock, module: Module) -> Clock:
    counts = list(clock)
    counts[module] += 1
    return counts[0], counts[1], counts[2]
