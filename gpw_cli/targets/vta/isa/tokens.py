"""The order in which instructions may run: queues, dependency tokens, vector clocks.

    order = linearise(insns)       # raises ProgramError on a deadlock or a token left over
    for number in order.sequence: ...

Each module (modules.py) has its own in-order queue, which Fetch fills in stream order.
Source: VTA's ``hardware/chisel`` (``core/Semaphore.scala``: 8-bit counters; ``core/Configs.scala``:
512 instructions a queue).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa.instructions import FinishInsn, Insn
from gpw_cli.targets.vta.isa.modules import (
    POPS,
    PUSHES,
    QUEUES,
    Module,
    TokenQueue,
    module_of,
    queue_of,
)

QUEUE_DEPTH = 512  # instructions a module's queue holds
MAX_TOKENS = 255  # what an 8-bit token counter holds


Clock = tuple[int, int, int]

_POPS = {m: tuple((flag, queue_of(m, flag)) for flag in POPS) for m in Module}
_PUSHES = {m: tuple((flag, queue_of(m, flag)) for flag in PUSHES) for m in Module}


@dataclass(frozen=True)
class Order:
    """One legal order, and what holds in every legal order.

    ``sequence``: instruction numbers, each after everything that it waits for. ``clock[n]``: how
    many instructions of each module are guaranteed to have completed when instruction n starts.
    ``index[n]``: how many instructions of its own module run before it.
    """

    sequence: tuple[int, ...]
    clock: tuple[Clock, ...]
    index: tuple[int, ...]


def where(number: int, insn: Insn) -> str:
    """The name of an instruction in error messages."""
    return f"instruction {number} ({insn.opcode.name})"


def linearise(insns: Sequence[Insn]) -> Order:
    """Simulates the token queues. Raises ProgramError naming an instruction that breaks a rule.

    Rules: the program ends with its only FINISH, which waits for everything; flags refer to a
    neighbour; no deadlock with 512-entry queues; at most 255 tokens in a queue; none left over.
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
        self.tokens: dict[TokenQueue, deque[tuple[int, Clock]]] = {q: deque() for q in QUEUES}
        self.pushed = dict.fromkeys(QUEUES, 0)
        self.popped: dict[TokenQueue, list[int]] = {q: [] for q in QUEUES}  # index of each popper
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
        """Moves instructions to their queues; a full queue blocks all later ones."""
        while self.fetched < len(self.insns):
            queue = self.waiting[self.modules[self.fetched]]
            if len(queue) >= QUEUE_DEPTH:
                return
            queue.append(self.fetched)
            self.fetched += 1

    def _missing(self, number: int) -> TokenQueue | None:
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

    def _push(self, queue: TokenQueue, number: int, start: Clock, done: Clock) -> None:
        self.tokens[queue].append((number, done))
        self.pushed[queue] += 1
        surely_popped = bisect_left(self.popped[queue], start[queue.to])
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
