"""Quantization-aware training on the exact integer network.

    network = QuantizedNetwork(graph, ranges, cfg)     # graph from quantization's ``prepare``
    logits = network(x)                                # of the integer network, in float
    network.graph()                                    # the float graph with the trained weights

Each forward pass quantizes the current weights (quantization/quantize.py, with all settings of
``cfg``) and computes the fused integer network exactly. The backward pass uses straight-through
gradients (quantization/straight.py). Batch norms are folded with their running statistics before
training. Activation scales come from ``ranges`` and stay fixed; weight scales follow the weights.
The accuracy measured during training is therefore that of the integer network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gpw_cli.config.quantizer import QuantizerConfig
from gpw_cli.graph.integer import IntConv, IntGraph, IntInput
from gpw_cli.graph.ir import Graph
from gpw_cli.graph.parameters import parameters, with_parameters
from gpw_cli.quantization.quantize import quantize_graph, tensor_scales
from gpw_cli.quantization.ranges import Ranges
from gpw_cli.quantization.straight import (
    coded,
    convolved,
    input_codes,
    rescaled,
    shifted_left,
    step,
)


class QuantizedNetwork(nn.Module):
    """``graph`` with trainable weights and biases, computed in integers as ``cfg`` says.

    Weights and biases that are zero at the start, such as masked weights, stay exactly zero.
    """

    def __init__(self, graph: Graph, ranges: Ranges, cfg: QuantizerConfig) -> None:
        super().__init__()
        self.ranges = ranges
        self._graph, self._cfg = graph, cfg
        self._scales = tensor_scales(graph, ranges, cfg, fused=True)
        for name, value in parameters(graph).items():
            parameter = nn.Parameter(torch.from_numpy(value).float())
            self.register_parameter(_key(name), parameter)
            parameter.register_hook(_Held(parameter))  # type: ignore[no-untyped-call]

    def graph(self) -> Graph:
        """The float graph with the current weights and biases."""
        own = {
            name: self.get_parameter(_key(name)).detach().cpu().numpy()
            for name in parameters(self._graph)
        }
        return with_parameters(self._graph, own)

    def integers(self) -> IntGraph:
        """The fused integer network of the current weights."""
        return quantize_graph(self.graph(), self.ranges, self._cfg, True, self._scales)

    def forward(self, x: Tensor) -> Tensor:
        """Logits float32 [N, classes] of normalised images [N, C, H, W].

        Exact under autocast too, which only affects the backward pass of convolutions.
        """
        fast = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False):
            return self._logits(x.float(), fast)

    def _logits(self, x: Tensor, fast: bool) -> Tensor:
        integers = self.integers()
        last = {name: node.name for node in integers.nodes for name in node.inputs}
        tensors: dict[str, Tensor] = {}
        for node in integers.nodes:
            if isinstance(node, IntInput):
                tensors[node.name] = input_codes(node, x)
            elif isinstance(node, IntConv):
                tensors[node.name] = self._conv(node, integers, tensors, fast)
            else:
                tensors[node.name] = step(node, tensors)
            for name in {name for name in node.inputs if last[name] == node.name}:
                del tensors[name]
        return tensors[integers.output].flatten(1) * integers.scales[integers.output]

    def _conv(
        self, node: IntConv, integers: IntGraph, tensors: dict[str, Tensor], fast: bool
    ) -> Tensor:
        x = tensors[node.input]
        unit = integers.scales[node.name] / 2.0 ** np.asarray(node.rescale.shift, float)
        units = torch.as_tensor(np.broadcast_to(unit, (node.shape[0],)).copy()).to(x)
        steps = (units / integers.scales[node.input])[:, None, None, None]
        weight = coded(self._own(node, "weight"), node.weight, steps)
        bias = coded(self._own(node, "bias"), node.bias, units)
        acc = convolved(x, weight, bias, (node.stride, node.padding), fast=fast)
        if node.residual is not None:
            acc = acc + shifted_left(tensors[node.residual], node.residual_shift)
        return rescaled(acc, node.rescale, relu=node.relu, bits=node.out_bits)

    def _own(self, node: IntConv, what: str) -> Tensor:
        return self.get_parameter(_key(f"{node.name}.{what}"))


class _Held:
    """A gradient hook that masks the entries that are zero when it is created."""

    def __init__(self, parameter: Tensor) -> None:
        self.mask = (parameter.detach() != 0).to(parameter.dtype)

    def __call__(self, grad: Tensor) -> Tensor:
        return grad * self.mask.to(grad.device)


def _key(name: str) -> str:
    """A parameter name without dots, which PyTorch does not allow."""
    return name.replace(".", "/")
