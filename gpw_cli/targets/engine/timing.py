"""Cycles of each layer and of the network: multipliers, memory and post-processing side by side.

    layers = [layer_time(work, cfg) for work in works_of(graph, cfg)]

A layer takes, after its first bytes are there, as long as its busiest unit; then its last tile is
stored. Layers follow one another (``overlaps_layers``: without those first and last bytes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gpw_cli.targets.engine.config import EngineConfig
from gpw_cli.targets.engine.memory import Traffic, activation_bytes, least_input, traffics
from gpw_cli.targets.engine.product import Product, products
from gpw_cli.targets.engine.work import ConvWork, PassWork, Work

UNITS = ("mac", "dram", "post", "pool")


@dataclass(frozen=True)
class LayerTime:
    """``busy``: cycles of each unit; ``bound``: what each needs at least; ``bytes`` by what moves.

    ``wait``: cycles until the first byte is there; ``edges``: those in which the first bytes come
    and the last ones leave, and nothing is multiplied.
    """

    name: str
    cycles: int
    wait: int
    edges: int
    busy: Mapping[str, int]
    bound: Mapping[str, int]
    bytes: Mapping[str, int]
    tiles: int

    @property
    def limit(self) -> str:
        """The unit that the layer waits for."""
        return max(UNITS, key=lambda unit: self.busy[unit])

    @property
    def split(self) -> dict[str, int]:
        """The cycles by what ran in them, the multipliers first; their sum is ``cycles``."""
        between = self.cycles - self.wait - self.edges
        parts = {"mac": min(self.busy["mac"], between)}
        slowest = max(UNITS[1:], key=lambda unit: self.busy[unit])
        parts |= dict.fromkeys(UNITS[1:], 0) | {slowest: between - parts["mac"]}
        parts["dram"] += self.edges
        return {**parts, "stall": self.wait}


def layer_time(work: Work, cfg: EngineConfig) -> LayerTime:
    """The fastest of the ways that the engine has for ``work``."""
    if isinstance(work, ConvWork):
        ways = [way for product in products(work, cfg) for way in product_times(work, product, cfg)]
        return min(ways, key=lambda way: (way.cycles, sum(way.bytes.values())))
    assert isinstance(work, PassWork)
    return _pass(work, cfg)


def product_times(work: ConvWork, product: Product, cfg: EngineConfig) -> Iterator[LayerTime]:
    """One time for each way to move what ``product`` multiplies."""
    for traffic in traffics(work, product.row_bytes, cfg):
        yield _conv(work, product, traffic, cfg)


def _conv(work: ConvWork, product: Product, traffic: Traffic, cfg: EngineConfig) -> LayerTime:
    post = _post(work, cfg)
    pool = 0 if work.pool is None else math.ceil(work.pool.values / cfg.pool_rate)
    total = _dram(traffic.total, cfg)
    wait, edges = cfg.dram_latency, _dram(traffic.first, cfg) + _dram(traffic.last, cfg)
    inside = _dram(max(traffic.total - traffic.first - traffic.last, 0), cfg)
    if cfg.overlaps_layers:
        wait, edges, inside = 0, 0, total
    cycles = wait + edges + max(product.cycles, inside, post, pool)
    once = int(product.row_bytes.sum()) + least_input(work, cfg)
    bound = _dram(once + traffic.outputs + traffic.operands, cfg)
    return LayerTime(
        work.name,
        cycles,
        wait,
        edges,
        {"mac": product.cycles, "dram": total, "post": post, "pool": pool},
        {"mac": product.bound, "dram": bound, "post": post, "pool": pool},
        {
            "weights": traffic.weights,
            "inputs": traffic.inputs + traffic.operands,
            "outputs": traffic.outputs,
        },
        product.tiles,
    )


def _post(work: ConvWork, cfg: EngineConfig) -> int:
    rate = cfg.add_rate if work.adds else cfg.post_rate
    return math.ceil(int(np.prod(work.out)) / rate) if rate else 0


def _pass(work: PassWork, cfg: EngineConfig) -> LayerTime:
    """Through memory only, at its speed."""
    inputs = sum(activation_bytes(shape, cfg) for shape in work.reads)
    outputs = activation_bytes(work.out, cfg, work.out_bytes)
    dram = _dram(inputs + outputs, cfg)
    busy = {"mac": 0, "dram": dram, "post": 0, "pool": 0}
    wait = 0 if cfg.overlaps_layers else cfg.dram_latency
    moved = {"weights": 0, "inputs": inputs, "outputs": outputs}
    return LayerTime(work.name, wait + dram, wait, 0, busy, busy, moved, 0)


def _dram(size: int, cfg: EngineConfig) -> int:
    return math.ceil(size / cfg.dram_bytes)
