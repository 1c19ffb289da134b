"""The same network without compressed columns, which the simulator must equal bit for bit.

Every layer is a dense matrix of 16-bit weights. All products of a window, zeros included, are
summed in 64 bits. A sum beyond 16 bits is a fault of gpw, because ``safe_shift`` rules it out.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpw_cli.arrays import Int8, Int16
from gpw_cli.errors import ProgramError
from gpw_cli.graph.codebook import share
from gpw_cli.graph.integer import IntConv, IntInput
from gpw_cli.targets.eie.fixed import TOP
from gpw_cli.targets.eie.host import compute, finish, widened
from gpw_cli.targets.eie.network import MatrixLayer, Network, scale_of


def run_reference(network: Network, x: Int8) -> Int16:
    """Logits int16 [N, classes] of quantized images int8 [N, C, H, W], one after the other.

    Raises ProgramError for an accumulator that overflows.
    """
    return np.stack([_one(network, x[i : i + 1]) for i in range(len(x))])


def _one(network: Network, image: Int8) -> Int16:
    tensors: dict[str, Int16] = {}
    for node in network.graph.nodes:
        if isinstance(node, IntInput):
            value = widened(node, image)
        elif isinstance(node, IntConv):
            layer = network.layers[node.name]
            sums = _dense(node, layer, tensors[node.input][..., 0], network.config.code_bits)
            value = finish(layer, sums, tensors)
        else:
            value = compute(node, tensors)
        tensors[node.name] = value
    return tensors[network.graph.output].reshape(-1)


def _dense(node: IntConv, layer: MatrixLayer, x: Int16, bits: int) -> Int16:
    """int16 [O, OH, OW, 1] of ``x`` int16 [C, H, W]."""
    scale = scale_of(node.rescale, len(node.weight))
    codes = share(node.weight * scale[:, None, None, None], bits).codes
    weight = layer.values[codes].astype(np.int64)
    wide = np.pad(x.astype(np.int64), ((0, 0), *((pad, pad) for pad in node.padding)))
    seen = sliding_window_view(wide, weight.shape[2:], axis=(1, 2))
    seen = seen[:, :: node.stride[0], :: node.stride[1]]
    half = 1 << (layer.shift - 1) if layer.shift else 0
    rows = []
    for row, bias in zip(weight, layer.bias, strict=True):
        products = seen * row[:, None, None] + half >> layer.shift
        rows.append(products.sum(axis=(0, 3, 4)) + int(bias))
    total = np.stack(rows)[..., None]
    if np.abs(total).max() > TOP:
        raise ProgramError(f"{layer.name}: an accumulator overflows; this is a fault of gpw")
    return total.astype(np.int16)
