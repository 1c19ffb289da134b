"""The DRAM side of the checker: regions, valid bytes, and the last access to each byte."""

from __future__ import annotations

import numpy as np

from gpw_cli.arrays import Int64
from gpw_cli.errors import ProgramError
from gpw_cli.targets.vta.check.hazards import Hazards
from gpw_cli.targets.vta.isa.access import Transfer
from gpw_cli.targets.vta.isa.modules import Module
from gpw_cli.targets.vta.isa.program import REGION_ALIGN, Program, Region
from gpw_cli.targets.vta.isa.tokens import Clock

_WRITTEN_BY_PROGRAM = ("intermediate", "output")


class DramState:
    """The state of DRAM in granules of at most 4 bytes; a transfer must stay inside one region."""

    def __init__(self, program: Program) -> None:
        spec = program.spec
        self.program, self.image = program, program.dram
        self.granule = min(spec.uop_elem_bytes, spec.inp_elem_bytes, spec.out_elem_bytes)
        count = -(-len(program.dram) // self.granule)
        self.region = np.full(count, -1, np.int32)
        self.hazards = Hazards(count, f"DRAM ({self.granule}-byte)")
        for number, region in enumerate(program.regions):
            self._add(number, region)
        laid = program.input_layout.shape(program.input_shape)
        self._check_size(program.input, laid, spec.inp_elem_bytes, 1)
        self._check_size(
            program.output, program.output_shape, spec.out_elem_bytes, program.output_bits // 8
        )

    def _add(self, number: int, region: Region) -> None:
        begin, end = region.offset, region.offset + region.length
        if begin % REGION_ALIGN or region.length <= 0 or end > len(self.image):
            raise ProgramError(
                f"region {region.name}: {region.length} bytes at {begin} of {len(self.image)}, "
                f"regions start at multiples of {REGION_ALIGN} inside the image"
            )
        span = slice(begin // self.granule, -(-end // self.granule))
        if (self.region[span] >= 0).any():
            raise ProgramError(f"region {region.name}: overlaps another region")
        self.region[span] = number
        self.hazards.valid[span] = region.kind not in _WRITTEN_BY_PROGRAM

    def _check_size(self, name: str, shape: tuple[int, int, int], elem: int, planes: int) -> None:
        channels, height, width = shape
        spec = self.program.spec
        lanes = elem // spec.batch
        wanted = planes * -(-channels // lanes) * height * width * elem
        have = self.program.region(name).length
        if have != wanted:
            raise ProgramError(f"region {name}: {have} bytes, {list(shape)} takes {wanted}")

    def _granules(self, place: str, moved: Transfer) -> Int64:
        """A transfer's granules. Raises ProgramError if a row leaves its region."""
        rows = np.unique(moved.rows)
        last = rows + moved.row_bytes - 1
        if int(last.max()) >= len(self.image):
            raise ProgramError(
                f"{place}: DRAM byte {int(last.max())}, the image has {len(self.image)}"
            )
        first_region, last_region = (
            self.region[rows // self.granule],
            self.region[last // self.granule],
        )
        bad = (first_region < 0) | (first_region != last_region)
        if bad.any():
            row = int(rows[bad][0])
            raise ProgramError(
                f"{place}: DRAM bytes {row} to {row + moved.row_bytes - 1} are not in one region"
            )
        count = moved.row_bytes // self.granule
        return (rows[:, None] // self.granule + np.arange(count)).reshape(-1)

    def read(self, place: str, moved: Transfer, module: Module, stamp: int, clock: Clock) -> None:
        """A LOAD. Raises ProgramError for unwritten bytes and races with STORE."""
        self.hazards.read(place, self._granules(place, moved), module, stamp, clock)

    def write(self, place: str, moved: Transfer, stamp: int, clock: Clock) -> None:
        """A STORE. Raises ProgramError for constant regions and races with the loads."""
        granules = self._granules(place, moved)
        if (
            len(granules) * self.granule != len(moved.rows) * moved.row_bytes
            or (np.diff(np.sort(moved.rows)) < moved.row_bytes).any()
        ):
            raise ProgramError(f"{place}: its rows overlap in DRAM")
        for number in np.unique(self.region[granules]):
            region = self.program.regions[number]
            if region.kind not in _WRITTEN_BY_PROGRAM:
                raise ProgramError(f"{place}: writes to {region.name}, a {region.kind} region")
        self.hazards.write(place, granules, Module.STORE, stamp, clock)

    def check_output(self) -> None:
        """Raises ProgramError unless all of the output region has been written."""
        region = self.program.region(self.program.output)
        begin = region.offset // self.granule
        valid = self.hazards.valid[begin : begin + region.length // self.granule]
        if not valid.all():
            byte = int(np.flatnonzero(~valid)[0]) * self.granule
            raise ProgramError(f"region {region.name}: its byte {byte} is never written")
