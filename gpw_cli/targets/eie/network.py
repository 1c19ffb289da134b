"""A float graph as EIE runs it: shared weights, blocks of compressed columns, fixed point.

    network = compile_network(graph, largest, config)     # graph from quantization.prepare
    network.layers["layer1.0.conv1"].storage

A linear layer is one matrix times one vector. A convolution is one matrix times one vector *for
every output pixel*: EIE has no weight reuse, so each entry is read again for each pixel. Biases are
the accumulators' first values, read from the activation SRAM. ReLU is applied on the way back.
What is neither (pooling, shortcut additions) is left to the host and not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpw_cli.graph.ir import Add, AvgPool, Conv, Graph, Input, MaxPool, Node, Pad, Pair, ReLU, Shape
from gpw_cli.graph.ir import inputs as inputs_of
from gpw_cli.targets.eie.codebook import Shared, share
from gpw_cli.targets.eie.config import EieConfig
from gpw_cli.targets.eie.fixed import GUARD, MAX_SHIFT, Int16, fraction_for, to_fixed
from gpw_cli.targets.eie.matrix import Blocks, blocks_of, lines_of, storage_of
from gpw_cli.targets.eie.memory import Storage, codebook_bits

HOST = {Add: "shortcut addition", AvgPool: "average pooling", MaxPool: "max pooling"}


@dataclass(frozen=True, eq=False)
class Layer:
    """One matrix. values int16 [2^code_bits]; bias int16 [O], at the output's fraction.

    ``shift``: right shift of a product. ``kernel``, ``stride``, ``padding``: the window whose
    values, channel by channel, are the vector; column = (channel * KH + row) * KW + column.
    """

    name: str
    input: str
    blocks: Blocks
    values: Int16
    bias: Int16
    shift: int
    kernel: Pair
    stride: Pair
    padding: Pair
    source: Shape
    shape: Shape
    storage: Storage
    lines: int  # of the fullest PE's weight SRAM

    @property
    def pixels(self) -> int:
        """Vectors an image."""
        return self.shape[1] * self.shape[2]


@dataclass(frozen=True, eq=False)
class Network:
    """``graph`` with its Conv nodes as ``layers``; ``fractions``: of every tensor by name."""

    graph: Graph
    layers: Mapping[str, Layer]
    fractions: Mapping[str, int]
    config: EieConfig

    @property
    def storage(self) -> Storage:
        """Of all layers, a codebook each."""
        total = Storage(0, 0, 0, 0, 0, 0)
        for layer in self.layers.values():
            total = total + layer.storage
        return total

    @property
    def on_host(self) -> dict[str, int]:
        """What EIE cannot run, and how often the network has it."""
        found: dict[str, int] = {}
        for node in self.graph.nodes:
            if type(node) in HOST:
                found[HOST[type(node)]] = found.get(HOST[type(node)], 0) + 1
        return found


def compile_network(graph: Graph, largest: Mapping[str, float], config: EieConfig) -> Network:
    """``largest``: magnitude of every tensor over the calibration images.

    Raises UnsupportedError for a layer that has more entries a PE than 16-bit pointers reach.
    """
    fractions: dict[str, int] = {}
    layers: dict[str, Layer] = {}
    shapes = {node.name: node.shape for node in graph.nodes}
    for node in graph.nodes:
        if isinstance(node, Conv):
            shared = share(node.weight.reshape(len(node.weight), -1), config.code_bits)
            layer, fraction = _layer(node, shared, fractions[node.input], largest, config)
            layers[node.name] = replace(layer, source=shapes[node.input])
            fractions[node.name] = fraction
        else:
            fractions[node.name] = _fraction(node, fractions, largest)
    return Network(graph, layers, fractions, config)


def _fraction(node: Node, fractions: Mapping[str, int], largest: Mapping[str, float]) -> int:
    """Of a tensor that no matrix makes: values that only move keep theirs."""
    if isinstance(node, Input | Add | AvgPool):
        return fraction_for(largest[node.name], 1.0 if isinstance(node, Input) else GUARD)
    assert isinstance(node, ReLU | Pad | MaxPool)
    return fractions[inputs_of(node)[0]]


def _layer(
    node: Conv, shared: Shared, entering: int, largest: Mapping[str, float], config: EieConfig
) -> tuple[Layer, int]:
    """The layer and its output's fraction; every product is shifted right by 0 to 30."""
    wanted = fraction_for(largest[node.name], GUARD)
    weight = min(fraction_for(float(abs(shared.values).max())), wanted - entering + MAX_SHIFT)
    leaving = min(wanted, weight + entering)
    blocks = blocks_of(shared.codes, config)
    stored = storage_of(blocks, config)
    layer = Layer(
        name=node.name,
        input=node.input,
        blocks=blocks,
        values=to_fixed(shared.values, weight),
        bias=to_fixed(node.bias, leaving),
        shift=weight + entering - leaving,
        kernel=(node.weight.shape[2], node.weight.shape[3]),
        stride=node.stride,
        padding=node.padding,
        source=node.shape,
        shape=node.shape,
        storage=replace(stored, codebook_bits=codebook_bits(config)),
        lines=lines_of(blocks, config),
    )
    return layer, leaving
