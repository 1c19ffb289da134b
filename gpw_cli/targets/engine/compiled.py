"""A network's layers on one engine, timed: what ``targets.base.Compiled`` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gpw_cli.targets.base import LayerCycles, Timing, UnitWork
from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.timing import UNITS, LayerTime, layer_time
from gpw_cli.targets.engine.work import Work


@dataclass(frozen=True)
class CompiledEngine:
    """Compiled; see ``targets.base``."""

    works: Sequence[Work]
    config: EngineConfig

    @cached_property
    def times(self) -> Sequence[LayerTime]:
        """Of each layer, in order."""
        return [layer_time(work, self.config) for work in self.works]

    @property
    def facts(self) -> Mapping[str, int | str]:
        """How many layers wait for which unit, and what the stock hardware cannot do."""
        waits = [time.limit for time in self.times]
        counts = {f"layers_on_{unit}": waits.count(unit) for unit in UNITS if unit in waits}
        if not self.config.claims:
            return counts
        return {**counts, "hypothetical": "the stock hardware skips no zero tiles"}

    def time(self) -> Timing:
        """One image, one layer after the other."""
        times = self.times
        cycles = sum(time.cycles for time in times)
        bound = {unit: sum(time.bound[unit] for time in times) for unit in UNITS}
        busy = {unit: sum(time.busy[unit] for time in times) for unit in UNITS}
        moved = {
            what: sum(time.bytes[what] for time in times)
            for what in ("weights", "inputs", "outputs")
        }
        return Timing(
            cycles=cycles,
            clock_mhz=self.config.clock_mhz,
            layers=[LayerCycles(t.name, t.cycles, t.split, t.bytes) for t in times],
            bound=bound,
            dram_bytes=moved,
            units={
                "mac": UnitWork("tiles", sum(time.tiles for time in times), bound["mac"] / cycles),
                "dram": UnitWork("bytes", sum(moved.values()), busy["dram"] / cycles),
            },
            images=1,
        )
