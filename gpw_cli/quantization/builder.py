"""The integer nodes of a float graph, one by one, under a fusion plan and known scales.

    builder = NodeBuilder(graph, ranges, cfg, plan, scales)
    nodes = [builder.node(node) for node in plan.stored(graph)]

Weights and biases are quantized here (weights.py), because the scale of the accumulators follows
from the scales of the tensors around the convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gpw_cli.arrays import Int32
from gpw_cli.config.quantizer import PotRule, QuantizerConfig, Rounding
from gpw_cli.graph import integer
from gpw_cli.graph.integer import FULL_RANGE, IntNode, Rescale, Shift
from gpw_cli.graph.ir import Add, AvgPool, Clip, Conv, Graph, Input, MaxPool, Node, Pad, ReLU
from gpw_cli.graph.moves import Concat, Select, Upsample
from gpw_cli.quantization.activations import activation_bits
from gpw_cli.quantization.plan import Epilogue, FusionPlan
from gpw_cli.quantization.ranges import Ranges
from gpw_cli.quantization.scales import log2_ratio, multiplier, power_of_two
from gpw_cli.quantization.weights import QuantizedLayer, Scales, corrected_bias, quantize_layer


@dataclass(frozen=True, eq=False)
class NodeBuilder:
    """``scales``: of the float tensors that are stored, by name.

    ``node`` records what it has built: ``names``, float tensor -> integer node, and ``stored``,
    integer node -> scale.
    """

    graph: Graph
    ranges: Ranges
    cfg: QuantizerConfig
    plan: FusionPlan
    scales: Mapping[str, float]
    names: dict[str, str] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)

    def node(self, node: Node) -> IntNode:
        """The integer node that computes ``node`` and the nodes that it absorbs."""
        result = self.plan.result(node)
        made, scale = self._made(node, result)
        self.names[result] = made.name
        self.stored[made.name] = scale
        return made

    def _made(self, node: Node, result: str) -> tuple[IntNode, float]:
        scale = self.scales[result]
        if isinstance(node, Conv):
            return self._conv(node, scale)
        if isinstance(node, Input):
            low, high = self._limits(activation_bits(self.graph, node, self.cfg))
            return integer.IntInput(node.name, node.shape, scale, low, high), scale
        if isinstance(node, Add):
            return self._add(node, scale), scale
        if isinstance(node, ReLU | Clip):
            return self._clipped(node, scale), scale
        return self._moved(node, scale), scale

    def _clipped(self, node: ReLU | Clip, scale: float) -> IntNode:
        """A ReLU, or a mean over one pixel for a clip whose lower limit is not 0."""
        source, unit = self.names[node.input], self.scales[node.input]
        clip = (node.low, node.high) if isinstance(node, Clip) else None
        relu = clip is None or clip[0] == 0
        rescale = self._rescale(node.name, scale, unit, relu=relu, clip=clip)
        if relu:
            return integer.IntRelu(node.name, source, rescale, node.shape)
        return integer.IntAvgPool(node.name, source, (1, 1), (1, 1), (0, 0), rescale, node.shape)

    def _moved(self, node: Node, scale: float) -> IntNode:
        """Pools, shortcuts and nodes that only move values."""
        if isinstance(node, AvgPool):
            unit = self.scales[node.input] / (node.kernel[0] * node.kernel[1])
            rescale = self._rescale(node.name, scale, unit, relu=False)
            window = (node.kernel, node.stride, node.padding)
            return integer.IntAvgPool(
                node.name, self.names[node.input], *window, rescale, node.shape
            )
        if isinstance(node, MaxPool):
            window = (node.kernel, node.stride, node.padding)
            return integer.IntMaxPool(
                node.name, self.names[node.input], *window, node.shape, node.after
            )
        if isinstance(node, Concat):
            parts = tuple(self.names[part] for part in node.parts)
            return integer.IntConcat(node.name, parts, node.shape)
        if isinstance(node, Select):
            return integer.IntSelect(node.name, self.names[node.input], node.channels, node.shape)
        if isinstance(node, Upsample):
            return integer.IntUpsample(node.name, self.names[node.input], node.factor, node.shape)
        assert isinstance(node, Pad)
        source = self.names[node.input]
        return integer.IntPad(node.name, source, node.stride, node.before, node.after, node.shape)

    def _add(self, node: Add, scale: float) -> integer.IntAdd:
        a, b = self.scales[node.a], self.scales[node.b]
        unit = min(a, b)
        shift_a, shift_b = log2_ratio(a, unit, node.name), log2_ratio(b, unit, node.name)
        end = self._epilogue(node)
        relu = end.relu
        rescale = self._rescale(node.name, scale, unit, relu=relu, clip=end.clip)
        operands = (self.names[node.a], self.names[node.b], shift_a, shift_b)
        return integer.IntAdd(node.name, *operands, relu, rescale, node.shape)

    def _conv(self, node: Conv, scale: float) -> tuple[integer.IntConv, float]:
        epilogue, bits = self._epilogue(node), self._out_bits(node)
        residual = epilogue.residual
        around = Scales(
            self.scales[node.input],
            self._output_scale(node, scale, bits),
            None if residual is None else self.scales[residual],
        )
        layer = self._layer(node, around)
        conv = integer.IntConv(
            node.name,
            self.names[node.input],
            layer.codes,
            layer.bias,
            node.stride,
            node.padding,
            None if residual is None else self.names[residual],
            0 if layer.residual_shift is None else _shift(layer.residual_shift),
            epilogue.relu,
            self._conv_rescale(node, layer, epilogue, bits),
            bits,
            node.shape,
        )
        return conv, layer.scale

    def _layer(self, node: Conv, around: Scales) -> QuantizedLayer:
        """The quantized weights and bias.

        They have one scale per layer if scales per channel would shift the shortcut to the right.
        """
        layer = self._corrected(node, around, self.cfg)
        shifts = layer.residual_shift
        if self.cfg.per_channel and shifts is not None and shifts.min() < 0:
            layer = self._corrected(node, around, replace(self.cfg, per_channel=False))
        return layer

    def _corrected(self, node: Conv, around: Scales, cfg: QuantizerConfig) -> QuantizedLayer:
        edge = node.input == self.graph.input.name or self.plan.result(node) == self.graph.output
        bits = max(cfg.weight_bits, cfg.edge_bits) if edge else cfg.weight_bits
        layer = quantize_layer(node.name, node.weight, node.bias, around, bits, cfg)
        if not cfg.bias_correction:
            return layer
        bias = corrected_bias(node.weight, node.bias, layer, self.ranges.tensors[node.input].mean)
        return quantize_layer(node.name, node.weight, bias, around, bits, cfg)

    def _conv_rescale(
        self, node: Conv, layer: QuantizedLayer, epilogue: Epilogue, bits: int
    ) -> Rescale:
        limits = self._limits(self.cfg.act_bits, epilogue.relu)
        if bits == 16:
            limits = (0 if epilogue.relu else -32767), 32767
        if bits == 32 or node.name == self.plan.wraps:
            limits = FULL_RANGE
        low, high = _within(limits, epilogue.clip, layer.scale)
        factor = 1 if layer.multiplier is None else _shift(layer.multiplier)
        return Rescale(_shift(layer.shift), self._rounds, low, high, factor)

    def _output_scale(self, node: Conv, scale: float, bits: int) -> float | None:
        """The scale of the output; None for logits, which keep the accumulator's scale."""
        if bits == 16:
            largest = self.ranges.tensors[self.plan.result(node)].max_abs
            return power_of_two(max(largest, 2.0**-30) / 32767, PotRule.ceil)
        return scale if bits == 8 else None

    def _out_bits(self, node: Conv) -> int:
        return self.cfg.logit_bits if self.plan.result(node) == self.graph.output else 8

    def _epilogue(self, node: Node) -> Epilogue:
        return self.plan.epilogues.get(node.name, Epilogue(node.name))

    def _rescale(
        self,
        name: str,
        scale: float,
        unit: float,
        *,
        relu: bool,
        clip: tuple[float, float] | None = None,
    ) -> Rescale:
        limits = FULL_RANGE if name == self.plan.wraps else self._limits(self.cfg.act_bits, relu)
        low, high = _within(limits, clip, scale)
        if self.cfg.multiplier_bits:
            factors, shift = multiplier(np.array([unit / scale]), self.cfg.multiplier_bits)
            return Rescale(shift, self._rounds, low, high, int(factors[0]))
        return Rescale(log2_ratio(scale, unit, name), self._rounds, low, high)

    def _limits(self, bits: int, relu: bool = False) -> tuple[int, int]:
        high = 2 ** (bits - 1) - 1
        return (0 if relu else -high - (self.cfg.clip_low == -128)), high

    @property
    def _rounds(self) -> bool:
        return self.cfg.rounding is Rounding.round


def _within(
    limits: tuple[int, int], clip: tuple[float, float] | None, scale: float
) -> tuple[int, int]:
    """``limits`` of a code, narrowed by a clip of its real value."""
    if clip is None:
        return limits
    low, high = (float(np.clip(np.floor(end / scale + 0.5), -(2**31), 2**31 - 1)) for end in clip)
    return max(limits[0], min(int(low), limits[1])), max(limits[0], min(int(high), limits[1]))


def _shift(shifts: Int32) -> Shift:
    """A single shift or multiplier if all channels have the same."""
    return int(shifts[0]) if np.all(shifts == shifts[0]) else shifts
