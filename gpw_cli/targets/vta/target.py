"""From a target's configuration to VTA's geometry, and VTA as ``targets.base.Npu`` sees it.

vta = vta_of(load_target("vta", VtaConfig))
vta.spec.tile                                  # (16, 16)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.isa.geometry import VtaSpec

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.targets.vta.compiled import CompiledVta


@dataclass(frozen=True)
class Vta:
    """One VTA in its shell."""

    spec: VtaSpec
    timing: VtaTiming

    @property
    def tile(self) -> tuple[int, int]:
        """(block_out, block_in)."""
        return self.spec.tile

    def identity(self) -> Mapping[str, Any]:
        """Geometry and timing; from what file or named option they came does not matter."""
        return {
            "mul": self.spec.mul,
            "acc_8bit": self.spec.acc_8bit,
            "vta": self.spec.to_config(),
            "timing": asdict(self.timing),
        }

    @property
    def program(self) -> type[CompiledVta]:
        """Simulates, exports, and writes traces."""
        from gpw_cli.targets.vta.compiled import CompiledVta

        return CompiledVta

    def compile(self, graph: IntGraph) -> CompiledVta:
        """``lowering.compile_graph``, for this geometry."""
        from gpw_cli.targets.vta.lowering import compile_graph

        return self.program(compile_graph(graph, self.spec), self.timing)


def vta_of(config: VtaConfig) -> Vta:
    """The VTA of a configuration. Raises UnsupportedError as ``spec_of`` does."""
    return Vta(spec_of(config), config.timing)


def spec_of(target: VtaConfig) -> VtaSpec:
    """The geometry of ``config_file`` where one is named, else of ``vta``.

    Raises UnsupportedError for a file that is no VTA configuration and for a geometry that the
    instructions cannot express.
    """
    if target.config_file is not None:
        spec = VtaSpec.from_json(target.config_file)
    else:
        spec = VtaSpec.from_config({k: v for k, v in asdict(target.vta).items() if v is not None})
    return replace(spec, mul=target.mul, acc_8bit=target.acc_8bit)
