"""Targets of tests: EIE as it is shipped, and a made-up engine, each with changes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from gpw_cli.config.target import load_target
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.engine.config import EngineConfig

#: 8 x 8 multipliers, one buffer, 8 bytes a cycle; nothing else takes time.
PLAIN = EngineConfig(
    family="engine",
    name="plain",
    clock_mhz=1000.0,
    atomic_k=8,
    atomic_c=8,
    arrays=1,
    virtual_neurons=False,
    input_width=0,
    weight_cycles=0,
    weight_overlap=True,
    image_mode=False,
    winograd=False,
    value_bytes=1,
    memory_atom=1,
    dram_bytes=8.0,
    dram_latency=0,
    shared_buffer=1 << 17,
    input_buffer=0,
    weight_buffer=0,
    output_buffer=0,
    accumulator_bytes=4,
    overlaps_layers=False,
    post_rate=0.0,
    add_rate=0.0,
    pool_rate=0.0,
    skips_zero_tiles=True,
    hypothetical=True,
    weight_compression=False,
    batch=1,
)


def engine(**changes: Any) -> EngineConfig:
    return replace(PLAIN, **changes)


@cache
def _shipped() -> EieConfig:
    return load_target("eie", EieConfig)


def eie(**changes: Any) -> EieConfig:
    """``target=eie`` with ``changes``."""
    return replace(_shipped(), **changes)
