"""An NPU as data: its geometry and how many cycles everything takes (``conf/target``).

    target = load_target("vta_pynq")
    target.timing.fetch_batch                  # 128 instructions

Source: VTA's ``config/*.json`` for the geometry; the Chisel sources of tvm-vta for the timing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, cast

from gpw_cli.config.paths import conf_dir, options
from gpw_cli.errors import UsageError

BUS_BITS = (64, 128, 256, 512)
_INSN_BITS = 128


@dataclass(frozen=True)
class VtaGeometry:
    """The keys of VTA's own JSON; LOG_BLOCK_IN and LOG_BLOCK_OUT override LOG_BLOCK."""

    TARGET: str = "sim"
    HW_VER: str = "0.0.2"
    LOG_INP_WIDTH: int = 3
    LOG_WGT_WIDTH: int = 3
    LOG_ACC_WIDTH: int = 5
    LOG_BATCH: int = 0
    LOG_BLOCK: int = 4
    LOG_BLOCK_IN: int | None = None
    LOG_BLOCK_OUT: int | None = None
    LOG_UOP_BUFF_SIZE: int = 15
    LOG_INP_BUFF_SIZE: int = 15
    LOG_WGT_BUFF_SIZE: int = 18
    LOG_ACC_BUFF_SIZE: int = 17


@dataclass(frozen=True)
class VtaTiming:
    """Cycles of VTA's units and its memory port; the defaults are the DE10 shell's.

    With N data beats, U micro-ops and n instructions a batch, uncontended:
    LOAD = load_overhead + read_latency + N (wide_load_overhead where the bus is as wide as an
    element), FETCH = fetch_overhead + read_latency + N + n, GEMM = gemm_overhead + gemm_cycles * U.
    STORE = store_overhead and, for each burst, store_burst + N + store_row * (rows - 1), the rows
    of an output element being read from the scratchpad one by one unless the bus takes a whole one.
    Raises UsageError for a number out of range.
    """

    clock_mhz: float = 100.0
    bus_bits: int = 64  # one beat
    burst_beats: int = 16  # longest burst; bursts end at multiples of its size
    read_latency: int = 16  # from the cycle in which the request queue fills to its first beat
    outstanding: int = 16  # read bursts accepted and not yet delivered, of all clients
    command_interval: int = 2  # cycles between two bursts of one client
    queue_entries: int = 512  # instructions that wait before LOAD, COMPUTE and STORE each
    max_tokens: int = 255  # a dependency counter saturates there
    sync_cycles: int = 2  # FINISH and instructions that only carry tokens
    gemm_cycles: int = 1  # a micro-op
    gemm_overhead: int = 7
    alu_imm_cycles: int = 1  # a micro-op with an immediate
    alu_cycles: int = 2  # a micro-op with two tensors
    alu_overhead: int = 7
    load_overhead: int = 7
    wide_load_overhead: int = 6
    fetch_overhead: int = 5
    wide_fetch_overhead: int = 8  # bus of 128 bits and more
    store_overhead: int = 1
    store_burst: int = 4
    store_row: int = 1

    def __post_init__(self) -> None:
        if self.bus_bits not in BUS_BITS:
            raise UsageError(
                f"target.timing.bus_bits={self.bus_bits}, allowed are "
                f"{', '.join(map(str, BUS_BITS))}"
            )
        for item in fields(self):
            value, least = getattr(self, item.name), _LEAST.get(item.name, 0)
            if value < least or (item.name == "clock_mhz" and value == 0):
                raise UsageError(f"target.timing.{item.name}={value}, must be at least {least}")

    @property
    def bus_bytes(self) -> int:
        """Bytes a beat."""
        return self.bus_bits // 8

    @property
    def burst_bytes(self) -> int:
        """Bytes of the longest burst, and the boundary no burst crosses."""
        return self.burst_beats * self.bus_bytes

    @property
    def fetch_batch(self) -> int:
        """Instructions a fetch: one burst, but no more than one instruction a beat."""
        return self.burst_beats * min(self.bus_bits, _INSN_BITS) // _INSN_BITS


_LEAST = dict.fromkeys(
    ("outstanding", "command_interval", "queue_entries", "max_tokens", "sync_cycles"), 1
) | {"burst_beats": 2, "clock_mhz": 0}
# what the units spend before and after their requests lie in the memory's queue
_LEAST |= {"load_overhead": 4, "wide_load_overhead": 4, "fetch_overhead": 3}
_LEAST |= {"wide_fetch_overhead": 3}


@dataclass(frozen=True)
class TargetConfig:
    """One NPU. ``config_file``: VTA's own JSON, whose geometry then replaces ``vta``.

    ``mul``, ``acc_8bit``: instructions that only some shells have; for the exported manifest and
    the checker, the compiler uses neither.
    """

    name: str = "vta"
    config_file: str | None = None
    mul: bool = False
    acc_8bit: bool = False
    vta: VtaGeometry = field(default_factory=VtaGeometry)
    timing: VtaTiming = field(default_factory=VtaTiming)


def load_target(name: str = "vta") -> TargetConfig:
    """``conf/target/NAME.yaml``. Raises UsageError for a name that is not there."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    if name not in options("target"):
        raise UsageError(f"no target '{name}': expected one of {', '.join(options('target'))}")
    with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="gpw"):
        plain = cast(dict[str, Any], OmegaConf.to_object(compose(f"target/{name}")))
    values = plain["target"]
    geometry, timing = VtaGeometry(**values.pop("vta")), VtaTiming(**values.pop("timing"))
    return TargetConfig(**values, vta=geometry, timing=timing)
