"""The last accesses to each element of a memory, and whether they are guaranteed to be over.

A stamp is 1 + the index of an instruction among those of its module; a vector clock (isa/tokens.py)
says how many instructions of each module are guaranteed to have completed. An access may follow one
of another module only if its clock has reached that access's stamp.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.isa.tokens import Clock


class Hazards:
    """Last write and last read of each of ``depth`` elements of the memory ``name``, by module."""

    def __init__(self, depth: int, name: str) -> None:
        self.depth, self.name = depth, name
        self.written = np.zeros((len(Module), depth), np.int32)
        self.read_at = np.zeros((len(Module), depth), np.int32)
        self.valid = np.zeros(depth, np.bool_)

    def read(self, place: str, index: Int64, module: Module, stamp: int, clock: Clock) -> None:
        """A read of ``index``. Raises ProgramError out of bounds, unwritten or racing."""
        self._bounds(place, index)
        if not self.valid[index].all():
            first = int(index[~self.valid[index]][0])
            raise ProgramError(f"{place}: reads {self.name} element {first}, never written")
        self._after(place, "reads", self.written, index, module, clock)
        self.read_at[module, index] = stamp

    def write(self, place: str, index: Int64, module: Module, stamp: int, clock: Clock) -> None:
        """A write of ``index``. Raises ProgramError out of bounds or racing."""
        self._bounds(place, index)
        self._after(place, "writes", self.written, index, module, clock)
        self._after(place, "writes", self.read_at, index, module, clock)
        self.written[module, index] = stamp
        self.valid[index] = True

    def _bounds(self, place: str, index: Int64) -> None:
        if int(index.max()) >= self.depth:
            raise ProgramError(
                f"{place}: {self.name} element {int(index.max())}, there are {self.depth}"
            )

    def _after(
        self,
        place: str,
        verb: str,
        stamps: NDArray[np.int32],
        index: Int64,
        module: Module,
        clock: Clock,
    ) -> None:
        for other in Module:
            if other == module:
                continue
            late = stamps[other, index] > clock[other]
            if late.any():
                what = "writing" if stamps is self.written else "reading"
                raise ProgramError(
                    f"{place}: {verb} {self.name} element {int(index[late][0])} while "
                    f"{other.name} may still be {what} it (no token orders the two)"
                )
