"""The same network without compressed columns: what the simulator must equal, bit for bit.

Every layer is its dense matrix of 16-bit weights; every product of a window is formed, zeros too,
in 64 bits, and the sum is taken modulo 2^16 at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gpw_cli.graph.ir import Conv, Input
from gpw_cli.targets.eie.codebook import share
from gpw_cli.targets.eie.fixed import Int16, to_fixed
from gpw_cli.targets.eie.host import compute
from gpw_cli.targets.eie.network import Layer, Network


def run_reference(network: Network, x: NDArray[np.floating]) -> Int16:
    """Logits int16 [N, classes] of normalised images [N, C, H, W], one image after the other."""
    return np.stack([_one(network, image) for image in np.asarray(x)])


def _one(network: Network, image: NDArray[np.floating]) -> Int16:
    tensors: dict[str, Int16] = {}
    for node in network.graph.nodes:
        if isinstance(node, Input):
            value = to_fixed(image, network.fractions[node.name])[..., None]
        elif isinstance(node, Conv):
            layer = network.layers[node.name]
            value = _dense(node, layer, tensors[node.input][..., 0], network.config.code_bits)
        else:
            value = compute(node, tensors, network.fractions)
        tensors[node.name] = value
    return tensors[network.graph.output].reshape(-1)


def _dense(node: Conv, layer: Layer, x: Int16, bits: int) -> Int16:
    """int16 [O, OH, OW, 1] of ``x`` int16 [C, H, W]."""
    codes = share(node.weight, bits).codes
    weight = layer.values[codes].astype(np.int64)
    around = ((0, 0), *((pad, pad) for pad in node.padding))
    wide = np.pad(x.astype(np.int64), around)
    seen = sliding_window_view(wide, weight.shape[2:], axis=(1, 2))
    seen = seen[:, :: node.stride[0], :: node.stride[1]]
    half = 1 << (layer.shift - 1) if layer.shift else 0
    rows = []
    for row, bias in zip(weight, layer.bias, strict=True):
        products = seen * row[:, None, None] + half >> layer.shift
        rows.append(products.sum(axis=(0, 3, 4)) + int(bias))
    total = np.stack(rows) & 0xFFFF
    return np.where(total > 0x7FFF, total - 0x10000, total).astype(np.int16)[..., None]
