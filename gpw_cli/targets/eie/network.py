"""An integer graph as EIE runs it: shared weights, blocks of compressed columns, fixed point.

    network = compile_network(graph, config)          # graph/integer.py
    network.layers["layer1.0.conv1"].storage

A linear layer is one matrix times one vector. A convolution is one matrix times one vector *for
every output pixel*: EIE has no weight reuse, so each entry is read again for each pixel. Biases are
the accumulators' first values, read from the activation SRAM. ReLU and the shift to the format of
the next layer are applied on the way back. Everything else (pooling, shortcut additions) is left to
the host and not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gpw_cli.arrays import Floats, Int16, Int64
from gpw_cli.graph import integer
from gpw_cli.graph.codebook import share
from gpw_cli.graph.frame import Pair, Shape
from gpw_cli.graph.integer import IntGraph, IntNode, Rescale
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.fixed import EXTRA, TOP, fraction_for, safe_shift, to_fixed
from gpw_cli.targets.eie.matrix import Blocks, blocks_of, lines_of, require_reach, storage_of
from gpw_cli.targets.eie.memory import Storage, codebook_bits

NOTHING = Storage(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class MatrixLayer:
    """One matrix. values int16 [2^code_bits]; bias int16 [O], in the accumulators' unit.

    ``shift``: right shift of a product; ``back``: left shift on the way back, 0 for logits, which
    stay as they are accumulated. A layer with a shortcut gives its accumulators to the host, which
    shifts, adds ``residual_scale`` [O] times the shortcut, and applies ReLU. The result is clipped
    to ``low`` .. ``high``.
    ``kernel``, ``stride``, ``padding``: the window whose values, channel by channel, then row by
    row, are the vector.
    """

    name: str
    input: str
    blocks: Blocks
    values: Int16
    bias: Int16
    shift: int
    back: int
    relu: bool
    low: int
    high: int
    residual: str | None
    residual_scale: Floats
    kernel: Pair
    stride: Pair
    padding: Pair
    shape: Shape
    storage: Storage
    lines: Int64  # of the weight SRAM of every PE

    @property
    def pixels(self) -> int:
        """Vectors an image."""
        return self.shape[1] * self.shape[2]


@dataclass(frozen=True, eq=False)
class Network:
    """``graph`` with its convolutions as ``layers``, by name and in order."""

    graph: IntGraph
    layers: Mapping[str, MatrixLayer]
    config: EieConfig

    @property
    def storage(self) -> Storage:
        """Of all layers, a codebook each."""
        return sum((layer.storage for layer in self.layers.values()), NOTHING)

    @property
    def sram_kib(self) -> tuple[float, float]:
        """KiB that the fullest PE needs for the entries and for the pointers of all layers."""
        lines = int(np.sum([layer.lines for layer in self.layers.values()], axis=0).max())
        pointers = self.storage.pointer_bits / self.config.pes / 8
        return lines * self.config.sram_bits / 8 / 1024, pointers / 1024

    @property
    def fits(self) -> bool:
        """Whether the SRAMs hold all weights; otherwise they come from DRAM for every image."""
        weights, pointers = self.sram_kib
        return weights <= self.config.weight_kib and pointers <= self.config.pointer_kib

    @property
    def on_host(self) -> dict[str, int]:
        """What EIE cannot run -> how often the network has it."""
        found: dict[str, int] = {}
        for node in self.graph.nodes:
            name = _host_work(node)
            if name is not None:
                found[name] = found.get(name, 0) + 1
        return found


def _host_work(node: IntNode) -> str | None:
    if isinstance(node, integer.IntAdd) or (
        isinstance(node, integer.IntConv) and node.residual is not None
    ):
        return "shortcut addition"
    if isinstance(node, integer.IntAvgPool):
        return "average pooling"
    return "max pooling" if isinstance(node, integer.IntMaxPool) else None


def scale_of(rescale: Rescale, channels: int) -> Floats:
    """What a rescale multiplies by, float64 [channels]."""
    scale = rescale.multiplier * 2.0 ** -np.asarray(rescale.shift, np.float64)
    return np.broadcast_to(scale, channels)


def limits(rescale: Rescale) -> tuple[int, int]:
    """The lowest and highest 16-bit value that rounds to what the rescale lets through."""
    half = 1 << (EXTRA - 1)
    low, high = (rescale.low << EXTRA) - half, (rescale.high << EXTRA) + half - 1
    return max(low, -TOP - 1), min(high, TOP)


def compile_network(graph: IntGraph, config: EieConfig) -> Network:
    """Shares the weights of every layer and packs them.

    Raises UnsupportedError for a layer that has more entries a PE than 16-bit pointers reach.
    """
    for node in graph.nodes:
        if isinstance(node, integer.IntConv):
            require_reach(node.name, node.weight.reshape(len(node.weight), -1) != 0, config)
    positive = {node.name for node in graph.nodes if not _signed(node)}
    layers = {}
    for node in graph.nodes:
        if (
            isinstance(node, integer.IntPad | integer.IntMaxPool | integer.IntAvgPool)
            and node.input in positive
        ):
            positive.add(node.name)
        if isinstance(node, integer.IntConv):
            layers[node.name] = _layer(node, config, signed=node.input not in positive)
    return Network(graph, layers, config)


def _signed(node: IntNode) -> bool:
    """Whether the node's own result can be negative."""
    if isinstance(node, integer.IntInput):
        return node.low < 0
    return not (
        isinstance(node, integer.IntRelu)
        or (isinstance(node, integer.IntConv | integer.IntAdd) and node.relu)
    )


def _layer(node: integer.IntConv, config: EieConfig, *, signed: bool) -> MatrixLayer:
    outputs = len(node.weight)
    scale = scale_of(node.rescale, outputs)
    real = node.weight.reshape(outputs, -1) * scale[:, None]
    shared = share(real, config.code_bits)
    fraction = fraction_for(float(np.abs(shared.values).max()))
    values = to_fixed(shared.values, fraction)
    bias = node.bias * scale * 2.0**EXTRA
    shift = safe_shift(values.astype(np.int64)[shared.codes], bias, fraction, signed)
    blocks = blocks_of(shared.codes, config)
    stored = node.out_bits == 8
    residual = 2.0 ** np.asarray(node.residual_shift, np.float64) * scale
    return MatrixLayer(
        name=node.name,
        input=node.input,
        blocks=blocks,
        values=values,
        bias=to_fixed(bias, fraction - shift),
        shift=shift,
        back=shift - fraction if stored else 0,
        relu=node.relu,
        low=limits(node.rescale)[0] if stored else -TOP - 1,
        high=limits(node.rescale)[1] if stored else TOP,
        residual=node.residual,
        residual_scale=residual if stored else residual * 2.0 ** (fraction - shift),
        kernel=(node.weight.shape[2], node.weight.shape[3]),
        stride=node.stride,
        padding=node.padding,
        shape=node.shape,
        storage=replace(storage_of(blocks, config), codebook_bits=codebook_bits(config)),
        lines=lines_of(blocks, config),
    )
