"""EIE as ``targets.base.Npu`` sees it.

eie = eie_of(load_target("eie", EieConfig))
eie.tile                                       # (64, 1): row o belongs to PE o mod 64
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gpw_cli.targets.eie.config import EieConfig

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.targets.eie.compiled import CompiledEie


@dataclass(frozen=True)
class Eie:
    """One EIE."""

    config: EieConfig

    @property
    def tile(self) -> tuple[int, int]:
        """(PEs, 1): at once, the PEs multiply one activation by one weight each."""
        return self.config.pes, 1

    @property
    def program(self) -> type[CompiledEie]:
        """Simulates EIE's own arithmetic; its cycles depend on the images."""
        from gpw_cli.targets.eie.compiled import CompiledEie

        return CompiledEie

    def identity(self) -> Mapping[str, Any]:
        """Every setting but the name."""
        plain = asdict(self.config)
        del plain["name"]
        return plain

    def compile(self, graph: IntGraph) -> CompiledEie:
        """``compile_network``. UnsupportedError: a matrix that 16-bit pointers do not reach."""
        from gpw_cli.targets.eie.network import compile_network

        return self.program(compile_network(graph, self.config))


def eie_of(config: EieConfig) -> Eie:
    """The EIE of a configuration."""
    return Eie(config)
