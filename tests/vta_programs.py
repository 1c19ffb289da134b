"""Programs for VTA's default shell."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from gpw_cli.config.target import load_target
from gpw_cli.graph.integer import IntGraph
from gpw_cli.targets.vta.config import VtaConfig, VtaTiming
from gpw_cli.targets.vta.isa.geometry import VtaSpec
from gpw_cli.targets.vta.isa.program import Program
from gpw_cli.targets.vta.target import Vta, spec_of


@cache
def shipped() -> VtaConfig:
    return load_target("vta", VtaConfig)


def timing() -> VtaTiming:
    return shipped().timing


def vta_spec(**changes: Any) -> VtaSpec:
    """The geometry of ``target=vta``, with ``changes`` of its fields."""
    return replace(spec_of(shipped()), **changes)


def compile_graph(graph: IntGraph, spec: VtaSpec) -> Program:
    """The program for ``spec`` behind the bus of ``target=vta``."""
    return Vta(spec, timing()).compile(graph).program
