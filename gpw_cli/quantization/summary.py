"""Ranges and scales as plain rows, for JSON, tables and plots.

rows = summarise(float_graph, ranges, int_graph, cfg, fused=True)
rows[3]  # {"name": "layer1.0.conv1", "kind": "conv", "scale": 0.0625, "exponent": -4, …}
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpw_cli.config.quantizer import Fusion, QuantizerConfig
from gpw_cli.graph.integer import IntConv, IntGraph, IntInput, IntNode, Shift
from gpw_cli.graph.ir import Graph
from gpw_cli.quantization.plan import plan_fusion
from gpw_cli.quantization.ranges import Ranges, TensorRange


def summarise(
    graph: Graph, ranges: Ranges, integers: IntGraph, cfg: QuantizerConfig, fused: bool
) -> list[dict[str, Any]]:
    """One row per integer node, in order.

    ``tensor``: the float tensor that it stores; ``min``, ``max``: of the calibration; ``scale`` and
    its log2 ``exponent``; ``clipped``: the share of the calibration values outside the codes. For a
    convolution also ``shift`` and ``weight_scale``, the smallest and largest over the channels, and
    ``zero_weights``, the share of its codes that are 0.
    """
    plan = plan_fusion(graph, cfg.fusion if fused else Fusion.none, wrap=cfg.wrap_last_add)
    rows = []
    for node in integers.nodes:
        tensor = plan.result(graph.node(node.name))
        seen, scale = ranges.tensors[tensor], integers.scales[node.name]
        row = {
            "name": node.name,
            "kind": type(node).__name__.removeprefix("Int").lower(),
            "tensor": tensor,
            "shape": list(node.shape),
            "min": seen.low,
            "max": seen.high,
            "scale": scale,
            "exponent": math.log2(scale),
            "clipped": _clipped(seen, scale, _codes(node, cfg)),
        }
        rows.append(row | (_weights(node, integers) if isinstance(node, IntConv) else {}))
    return rows


def _codes(node: IntNode, cfg: QuantizerConfig) -> int:
    """The largest code of the tensor of ``node``."""
    if isinstance(node, IntConv) and node.out_bits > 8:
        return int(2 ** (node.out_bits - 1) - 1)
    return node.high if isinstance(node, IntInput) else int(2 ** (cfg.act_bits - 1) - 1)


def _clipped(seen: TensorRange, scale: float, top: int) -> float:
    outside = seen.counts[seen.centres > scale * (top + 0.5)].sum()
    return float(outside / seen.counts.sum())


def _weights(node: IntConv, integers: IntGraph) -> dict[str, Any]:
    shift, factor = node.rescale.shift, node.rescale.multiplier
    scale_in, scale_out = integers.scales[node.input], integers.scales[node.name]
    steps = scale_out / scale_in * np.atleast_1d(factor / 2.0 ** np.asarray(shift, np.float64))
    multiplies = {"multiplier": list(_extremes(factor))} if node.rescale.multiplies else {}
    return {
        "shift": list(_extremes(shift)),
        **multiplies,
        "weight_scale": [float(steps.min()), float(steps.max())],
        "zero_weights": float(np.mean(node.weight == 0)),
    }


def _extremes(shift: Shift) -> tuple[int, int]:
    values = np.atleast_1d(shift)
    return int(values.min()), int(values.max())
