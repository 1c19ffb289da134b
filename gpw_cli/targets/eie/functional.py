"""The network run entry by entry from the SRAM contents, many images at once.

    simulator = Simulator(network)
    logits = simulator.run(x)            # int8 [N, C, H, W] -> int16 [N, classes]
    simulator.tensors(x)["conv1"]        # every tensor, int16 [C, H, W, N]

As in EIE, a column whose activation is zero is skipped. Images and pixels are one axis of an array;
the columns are walked one after the other, and each shared value of a column is multiplied once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Int8, Int16
from gpw_cli.graph.integer import IntConv, IntInput
from gpw_cli.targets.eie.csc import Csc, places
from gpw_cli.targets.eie.host import compute, finish, widened, windows
from gpw_cli.targets.eie.network import MatrixLayer, Network

BATCH = 32  # images at once: a column of a layer stays in cache


@dataclass(frozen=True, eq=False)
class _Column:
    """Rows of a column's weights, and for each which of ``codes`` it has."""

    rows: NDArray[np.int64]
    codes: NDArray[np.uint8]
    which: NDArray[np.int64]


class Simulator:
    """Decodes the SRAM contents of every layer once."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.columns = {
            layer.name: [[_columns(block) for block in batches] for batches in layer.blocks]
            for layer in network.layers.values()
        }

    def run(self, x: Int8) -> Int16:
        """Logits int16 [N, classes] of quantized images int8 [N, C, H, W]."""
        parts = [self.tensors(x[i : i + BATCH], False) for i in range(0, len(x), BATCH)]
        logits = [part[self.network.graph.output] for part in parts]
        return np.concatenate([part.reshape(-1, part.shape[-1]).T for part in logits])

    def tensors(self, x: Int8, keep: bool = True) -> dict[str, Int16]:
        """Tensors by name, int16 [C, H, W, N]: all of them, or those still needed at the end."""
        nodes = self.network.graph.nodes
        last = {name: node.name for node in nodes for name in node.inputs}
        tensors: dict[str, Int16] = {}
        for node in nodes:
            if isinstance(node, IntInput):
                value = widened(node, x)
            elif isinstance(node, IntConv):
                layer = self.network.layers[node.name]
                value = finish(layer, self._sums(layer, tensors[node.input]), tensors)
            else:
                value = compute(node, tensors)
            tensors[node.name] = value
            for name in {n for n in node.inputs if last[n] == node.name and not keep}:
                del tensors[name]
        return tensors

    def _sums(self, layer: MatrixLayer, x: Int16) -> Int16:
        """The accumulators, int16 [O, OH, OW, N]."""
        views = windows(x, layer.kernel, layer.stride, layer.padding, 0)
        vectors = layer.pixels * x.shape[-1]
        result = np.repeat(layer.bias[:, None], vectors, axis=1)
        row = 0
        for passed, batches in zip(self.columns[layer.name], layer.blocks, strict=True):
            sums = result[row : row + batches[0].rows]
            position = 0
            for columns in passed:
                for column in columns:
                    if len(column.rows):
                        channel, view = divmod(position, len(views))
                        _accumulate(sums, column, layer, views[view][channel].reshape(-1))
                    position += 1
            row += batches[0].rows
        return result.reshape(*layer.shape, x.shape[-1])


def _accumulate(sums: Int16, column: _Column, layer: MatrixLayer, activation: Int16) -> None:
    """Adds the rounded products of one column; ``safe_shift`` keeps them in 16 bits."""
    wide = activation.astype(np.int32)
    if not wide.any():
        return
    products = layer.values[column.codes].astype(np.int32)[:, None] * wide
    if layer.shift:
        products += 1 << (layer.shift - 1)
        products >>= layer.shift
    sums[column.rows] += products.astype(np.int16)[column.which]


def _columns(block: Csc) -> list[_Column]:
    row, column = places(block)
    real = np.flatnonzero(block.codes)
    order = real[np.argsort(column[real], kind="stable")]
    ends = np.searchsorted(column[order], np.arange(block.columns + 1))
    found = []
    for start, end in pairwise(ends):
        codes, which = np.unique(block.codes[order[start:end]], return_inverse=True)
        found.append(_Column(row[order[start:end]], codes, which))
    return found
