"""VTA as an ``Npu`` of ``targets.base``, made from its configuration.

vta = vta_of(load_target("vta", VtaConfig))
vta.spec.tile                                  # (16, 16)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.vta_json import config_of, spec_from_config, spec_from_json
from gpw_cli.targets.vta.lowering.unit_costs import UnitCosts

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
        """Geometry and timing, whatever file or option they came from.

        ``tile_search``: the version of the tile search, left out where the costs are those that its
        first version charged on every VTA.
        """
        search = {} if unit_costs(self.spec, self.timing) == _FIRST_COSTS else {"tile_search": 2}
        return {
            "mul": self.spec.mul,
            "acc_8bit": self.spec.acc_8bit,
            "vta": config_of(self.spec),
            "timing": asdict(self.timing),
            **search,
        }

    @property
    def program(self) -> type[CompiledVta]:
        """The class of a compiled program."""
        from gpw_cli.targets.vta.compiled import CompiledVta

        return CompiledVta

    def compile(self, graph: IntGraph) -> CompiledVta:
        """``lowering.network.compile_graph``, for this geometry and timing."""
        from gpw_cli.targets.vta.lowering.network import compile_graph

        costs = unit_costs(self.spec, self.timing)
        return self.program(compile_graph(graph, self.spec, costs), self.timing)


#: What version 1 of the tile search charged, whatever the timing said, but 23 for a request of
#: micro-ops. All 28 programs and 462 searches that were compared came out the same with 22, so the
#: stage keys of a VTA with these costs stay as they were.
_FIRST_COSTS = UnitCosts(
    inp_request=23,
    wgt_request=23,
    uop_request=22,
    bus_bytes=8,
    gemm=7,
    gemm_uop=1,
    alu=7,
    alu_imm_uop=1,
    alu_tensor_uop=2,
    store=3.375,
)


def unit_costs(spec: VtaSpec, timing: VtaTiming) -> UnitCosts:
    """What the tile search charges: ``timing`` for the elements of ``spec``.

    Assumes STORE bursts of full length.
    """

    def request(element: int) -> int:
        wide = timing.bus_bytes >= element
        overhead = timing.wide_load_overhead if wide else timing.load_overhead
        return overhead + timing.read_latency

    out, bus = spec.out_elem_bytes, timing.bus_bytes
    pause = timing.store_row if out > bus else 0
    burst = (timing.store_burst - pause) * out / timing.burst_bytes
    return UnitCosts(
        inp_request=request(spec.inp_elem_bytes),
        wgt_request=request(spec.wgt_elem_bytes),
        uop_request=request(spec.uop_elem_bytes),
        bus_bytes=bus,
        gemm=timing.gemm_overhead,
        gemm_uop=timing.gemm_cycles,
        alu=timing.alu_overhead,
        alu_imm_uop=timing.alu_imm_cycles,
        alu_tensor_uop=timing.alu_cycles,
        store=out / bus + pause * spec.batch + burst,
    )


def vta_of(config: VtaConfig) -> Vta:
    """The VTA of a configuration. Raises UnsupportedError as ``spec_of`` does."""
    return Vta(spec_of(config), config.timing)


def spec_of(target: VtaConfig) -> VtaSpec:
    """The geometry in ``config_file`` if there is one, else in ``vta``.

    Raises UnsupportedError for a file that is no VTA configuration and for a geometry that the
    instructions cannot express.
    """
    if target.config_file is not None:
        spec = spec_from_json(target.config_file)
    else:
        spec = spec_from_config({k: v for k, v in asdict(target.vta).items() if v is not None})
    return replace(spec, mul=target.mul, acc_8bit=target.acc_8bit)
