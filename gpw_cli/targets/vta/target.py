"""From a target's configuration to VTA's geometry, and VTA as ``targets.base.Npu`` sees it.

spec = spec_of(load_target("vta"))
spec = spec_of(TargetConfig(config_file="vta_config.json"))     # VTA's own JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpw_cli.config.target import TargetConfig, VtaTiming
from gpw_cli.errors import UnsupportedError
from gpw_cli.targets.vta.spec import VtaSpec

if TYPE_CHECKING:
    from gpw_cli.graph.integer import IntGraph
    from gpw_cli.targets.vta.compiled import CompiledVta


@dataclass(frozen=True)
class Vta:
    """One VTA in its shell."""

    spec: VtaSpec
    timing: VtaTiming

    @property
    def name(self) -> str:
        """Such as "vta 1x16x16"."""
        return self.spec.name

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

    def compile(self, graph: IntGraph) -> CompiledVta:
        """``lowering.compile_graph``, for this geometry."""
        from gpw_cli.targets.vta.compiled import CompiledVta
        from gpw_cli.targets.vta.lowering import compile_graph

        return CompiledVta(compile_graph(graph, self.spec), self.timing)


def spec_of(target: TargetConfig) -> VtaSpec:
    """The geometry of ``config_file`` where one is named, else of ``vta``.

    Raises UnsupportedError for a file that is no VTA configuration and for a geometry that the
    instructions cannot express.
    """
    config = {key: value for key, value in asdict(target.vta).items() if value is not None}
    if target.config_file is not None:
        try:
            config = json.loads(Path(target.config_file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnsupportedError(f"VTA configuration {target.config_file}: {error}") from error
        if not isinstance(config, dict):
            raise UnsupportedError(f"VTA configuration {target.config_file}: not a JSON object")
    return VtaSpec.from_config(config, mul=target.mul, acc_8bit=target.acc_8bit)
