"""The read port that VTA's units share, burst by burst.

    port = ReadPort(timing)
    port.request(client=3, ready=12, bursts=(16, 16, 4))
    port.serve(until=100)          # (3, 65): the cycle after the client's last beat left

Source: ``shell/VME.scala`` and ``dpi/VTAMemDPI.scala``. Modelled exactly: each cycle accepts one
burst, from the lowest client that offers one; a client offers a burst every ``command_interval``
cycles; at most ``outstanding`` bursts are in flight, and none is accepted in the cycle in which one
ends; accepted bursts are served in order, one beat per cycle, the first at least ``read_latency``
cycles after the queue of accepted bursts became non-empty. Writes use another port.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from gpw_cli.targets.vta.config import VtaTiming

CLIENTS = 5  # fetch, uop, inp, wgt, acc: in order of priority
_NEVER = 1 << 62


class ReadPort:
    """Time is in cycles and only moves forward; ``busy`` counts the beats delivered.

    ``begins``: the cycle of the first beat of each burst of a client's last request.
    """

    def __init__(self, timing: VtaTiming) -> None:
        self.busy = 0
        self.begins: list[list[int]] = [[] for _ in range(CLIENTS)]
        self._latency = timing.read_latency
        self._interval = timing.command_interval
        self._outstanding = timing.outstanding
        self._ready = [_NEVER] * CLIENTS  # cycle of each client's next offer
        self._bursts: list[Sequence[int]] = [()] * CLIENTS
        self._next = [0] * CLIENTS  # the index of that burst
        self._ends: deque[int] = deque()  # last beats of accepted bursts, ascending
        self._accepted = -1  # cycle of the last acceptance
        self._begun = -2  # cycle in which the last burst left the queue of accepted ones
        self._free = 0  # cycle from which the memory can serve the next one

    def request(self, client: int, ready: int, bursts: Sequence[int]) -> None:
        """``client``, which has no open request, offers its first burst in the cycle ``ready``."""
        self._ready[client], self._bursts[client], self._next[client] = ready, bursts, 0
        self.begins[client] = []

    def serve(self, until: int) -> tuple[int, int] | None:
        """Accepts bursts up to the cycle ``until``, or until a request is complete.

        Returns (client, the cycle after its last beat left the memory), None if none completed.
        The caller must have made all requests that are ready by ``until``.
        """
        ready = self._ready
        while (cycle := self._next_acceptance(min(ready))) <= until:
            client = next(c for c in range(CLIENTS) if ready[c] <= cycle)
            bursts, number = self._bursts[client], self._next[client]
            self.begins[client].append(self._accept(cycle, bursts[number]))
            if number + 1 == len(bursts):
                ready[client] = _NEVER
                return client, self._free
            self._next[client] = number + 1
            ready[client] = cycle + self._interval
        return None

    def _next_acceptance(self, ready: int) -> int:
        """The cycle of the next acceptance; a later request may still be ready earlier."""
        if ready == _NEVER:
            return _NEVER
        cycle, ends, ended = max(ready, self._accepted + 1), self._ends, 0
        while ended < len(ends):
            if ends[ended] < cycle:
                ended += 1
            elif ends[ended] == cycle:
                cycle += 1
            elif len(ends) - ended >= self._outstanding:
                cycle = ends[ended] + 1
            else:
                break
        return cycle

    def _accept(self, cycle: int, beats: int) -> int:
        """The cycle of the burst's first beat."""
        queued = cycle + 1
        begin = self._free
        if queued > self._begun + 1:  # the queue was empty: the latency applies again
            begin = max(begin, queued + self._latency)
        self._accepted, self._begun, self._free = cycle, begin, begin + beats
        while self._ends and self._ends[0] < cycle:
            self._ends.popleft()
        self._ends.append(begin + beats)
        self.busy += beats
        return begin
