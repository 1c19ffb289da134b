"""The scale of every tensor that the integer network stores.

    scales = activation_scales(graph, ranges, cfg, plan)     # float tensor name -> scale

``global``: global_scale / 2^(bits-1) for all tensors (TVM, `_calibrate.py`). ``per_tensor``: the
observer's threshold divided by the largest code, rounded to a power of two unless the rescale has a
multiplier, and never below ``scale_floor``. An average pool over k values has the division by k in
its scale: S_out = S_in * 2^n / k.
"""

from __future__ import annotations

import numpy as np

from gpw_cli.config.quantizer import PotRule, QuantizerConfig, ScaleMode
from gpw_cli.graph.ir import AvgPool, Graph, Node
from gpw_cli.quantization.observers import threshold
from gpw_cli.quantization.plan import FusionPlan, tie_tensors
from gpw_cli.quantization.ranges import Ranges, TensorRange, merge
from gpw_cli.quantization.scales import least_error, power_of_two

UNUSED = 2.0**-7  # scale of a tensor that is zero on every calibration image


def activation_scales(
    graph: Graph, ranges: Ranges, cfg: QuantizerConfig, plan: FusionPlan
) -> dict[str, float]:
    """Scales of the tensors that are stored under ``plan``, by their float names."""
    stored = plan.stored(graph)
    tied = tie_tensors(graph, plan, cfg.residual)
    groups: dict[str, list[str]] = {}
    for node in stored:
        name = plan.result(node)
        groups.setdefault(tied[name], []).append(name)
    scales: dict[str, float] = {}
    for node in stored:
        name = plan.result(node)
        if name in scales:
            continue
        members = groups[tied[name]]
        seen = merge(ranges.tensors[member] for member in members)
        scale = tensor_scale(seen, activation_bits(graph, node, cfg), cfg, _unit(node, scales))
        scales.update(dict.fromkeys(members, scale))
    return scales


def activation_bits(graph: Graph, node: Node, cfg: QuantizerConfig) -> int:
    """Bits of a tensor's codes; the input image has at least ``edge_bits``."""
    edge = node.name == graph.input.name
    return max(cfg.act_bits, cfg.edge_bits) if edge else cfg.act_bits


def tensor_scale(seen: TensorRange, bits: int, cfg: QuantizerConfig, unit: float) -> float:
    """The scale ``unit`` * 2^e of a tensor whose calibration values are ``seen``."""
    if cfg.scale_mode is ScaleMode["global"]:
        one = cfg.global_scale / 2 ** (cfg.act_bits - 1)
        return one if unit == 1.0 else power_of_two(one, PotRule.nearest, unit)
    limit = threshold(cfg.observer, seen, bits, cfg.percentile)
    if limit == 0:
        return power_of_two(UNUSED, PotRule.ceil, unit)
    step = limit / (2 ** (bits - 1) - cfg.step_margin)
    if cfg.multiplier_bits:
        scale = step
    elif cfg.pot_rule is PotRule.mse:
        values = np.minimum(seen.centres, limit)
        counts = seen.counts.astype(np.float64)
        scale = least_error(counts, values, step, 2 ** (bits - 1) - 1, unit)
    else:
        scale = power_of_two(step, cfg.pot_rule, unit)
    return above_floor(scale, cfg, unit)


def above_floor(scale: float, cfg: QuantizerConfig, unit: float) -> float:
    """``scale``, or the smallest ``unit`` * 2^e that is at least 2^scale_floor."""
    if cfg.scale_floor is None:
        return scale
    return max(scale, power_of_two(2.0**cfg.scale_floor, PotRule.ceil, unit))


def _unit(node: Node, scales: dict[str, float]) -> float:
    """The factor that an average pool puts into the scale of its output."""
    if isinstance(node, AvgPool):
        return scales[node.input] / (node.kernel[0] * node.kernel[1])
    return 1.0
