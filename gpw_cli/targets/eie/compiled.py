"""A network in EIE's SRAMs: what ``targets.base`` knows of a compiled network.

    compiled = CompiledEie(compile_network(graph, config))
    compiled.time_on(images).cycles         # of these images; time() takes noise

EIE skips zero activations, so its cycles depend on the images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int8
from gpw_cli.errors import ProgramError
from gpw_cli.targets.base import LayerCycles, Timing, UnitWork
from gpw_cli.targets.eie.config import VALUE_BITS
from gpw_cli.targets.eie.energy import energy
from gpw_cli.targets.eie.functional import Simulator
from gpw_cli.targets.eie.network import Network
from gpw_cli.targets.eie.reference import run_reference
from gpw_cli.targets.eie.timing import Counts, time_network

CONVOLUTIONS = "{}, one matrix-vector product an output pixel, no weight reuse"


@dataclass(frozen=True, eq=False)
class EieTiming(Timing):
    """Of one image. ``entry_lines``: lines of the weight SRAMs that the network fills."""

    accesses: Counts
    picojoules: Mapping[str, float]
    entry_lines: int
    theoretical_cycles: int

    def counts(self) -> dict[str, int | float]:
        """Adds what convolutions cost without weight reuse, and the estimated energy."""
        return {
            **super().counts(),
            "theoretical_cycles": self.theoretical_cycles,
            "weight_lines_stored": self.entry_lines,
            "weight_lines_read": self.accesses.lines,
            "energy_nj": round(sum(self.picojoules.values()) / 1e3),
        }

    def to_dict(self) -> dict[str, Any]:
        """Adds accesses and energy by class."""
        own = {"accesses": asdict(self.accesses), "picojoules": dict(self.picojoules)}
        return {**super().to_dict(), **own}


@dataclass(frozen=True, eq=False)
class CompiledEie:
    """Compiled, Simulates and DataDependent; see ``targets.base``."""

    network: Network

    @property
    def facts(self) -> Mapping[str, int | str]:
        """Storage in bits, whether the SRAMs hold it, and what is left to the host."""
        network, stored = self.network, self.network.storage
        conv = sum(layer.pixels > 1 for layer in network.layers.values())
        rest = ", ".join(f"{count} {name}" for name, count in network.on_host.items())
        weights, pointers = network.sram_kib
        return {
            "stored_bits": stored.bits,
            "stored_entries": stored.entries,
            "stored_padding": stored.padding,
            "fullest_pe": f"{weights:.1f} KiB of entries and {pointers:.1f} of pointers"
            + ("" if network.fits else ", more than its SRAMs hold: read from DRAM, not timed"),
            "not_run_by_eie": f"{rest}: on the host, not timed" if rest else "nothing",
            **({"convolutions": CONVOLUTIONS.format(conv)} if conv else {}),
            "energy_table": network.config.energy.source,
        }

    @property
    def bit_exact(self) -> bool:
        """16-bit fixed point and shared weights are not the integer reference's."""
        return False

    @property
    def timed_images(self) -> int:
        """How many images ``time_on`` takes."""
        return self.network.config.timed_images

    def simulator(self) -> Callable[[Int8], NDArray[Any]]:
        """Checks the first images against the dense 16-bit reference."""
        simulator = Simulator(self.network)
        left = self.network.config.checked_images

        def run(images: Int8) -> NDArray[Any]:
            nonlocal left
            logits = simulator.run(images)
            checked, left = images[:left], max(left - len(images), 0)
            if (
                len(checked)
                and (run_reference(self.network, checked) != logits[: len(checked)]).any()
            ):
                raise ProgramError(
                    "simulate: EIE's logits differ from those of its dense 16-bit reference; this "
                    "is a fault of gpw"
                )
            return logits

        return run

    def time(self) -> EieTiming:
        """One image of noise, which leaves more activations above zero than a real one does."""
        shape = (1, *self.network.graph.input.shape)
        return self.time_on(np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8))

    def time_on(self, images: Int8) -> EieTiming:
        """The mean over images int8 [N, C, H, W]."""
        network, config = self.network, self.network.config
        tensors = Simulator(network).tensors(images)
        layers = {
            name: found.over(len(images)) for name, found in time_network(network, tensors).items()
        }
        total = sum(layers.values(), Counts())
        moved = self._dram()
        return EieTiming(
            cycles=total.cycles,
            clock_mhz=config.clock_mhz,
            layers=[
                LayerCycles(name, found.cycles, found.split, {}) for name, found in layers.items()
            ],
            bound={"theory": total.least},
            dram_bytes=moved,
            units={
                "pe": UnitWork("entries", total.entries, total.balance(config.pes)),
            },
            images=1,
            accesses=total,
            picojoules=energy(total, 8 * sum(moved.values()), config),
            entry_lines=int(sum(layer.lines.sum() for layer in network.layers.values())),
            theoretical_cycles=round(total.theoretical(config.pes)),
        )

    def _dram(self) -> dict[str, int]:
        """Bytes an image: the input, the logits, and the weights where the SRAMs are too small."""
        graph = self.network.graph
        outputs = int(np.prod(graph.node(graph.output).shape))
        values = int(np.prod(graph.input.shape)) + outputs
        weights = 0 if self.network.fits else -(-self.network.storage.bits // 8)
        return {"activations": values * VALUE_BITS // 8, "weights": weights}
