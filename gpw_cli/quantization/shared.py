"""A network whose weights share a few trainable values per layer (Deep Compression).

    network = SharedNetwork(graph, bits=4)      # graph from quantization's ``prepare``
    logits = network(x)                         # float32, 16 values per layer
    network.graph()                             # the float graph with the current values

The gradient of a value is the mean over the weights that share it: the sum of papers/002 (Han et
al., ICLR 2016) divided by their number, so that a learning rate has the same effect however many
weights share a value. ``share`` assigns values to weights once. Value 0 is zero and is not trained,
so masked weights stay exactly zero. Biases are trained but not shared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gpw_cli.graph.codebook import share
from gpw_cli.graph.ir import Conv, Graph
from gpw_cli.graph.module import logits_of, parameter_name
from gpw_cli.graph.parameters import with_parameters


class SharedNetwork(nn.Module):
    """``graph`` with 2^bits values, zero included, for each convolution and linear layer.

    For the layer ``fc``: ``fc_values`` float32 [2^bits - 1], ``fc_bias`` float32 [O], and the
    buffer ``fc_codes`` uint8 of the weight's shape.
    """

    def __init__(self, graph: Graph, bits: int) -> None:
        super().__init__()
        self._graph = graph
        self._layers = [node for node in graph.nodes if isinstance(node, Conv)]
        for node in self._layers:
            shared = share(node.weight, bits)
            values = nn.Parameter(torch.from_numpy(shared.values[1:]).float())
            bias = nn.Parameter(torch.from_numpy(node.bias).float())
            weights = np.bincount(shared.codes.ravel(), minlength=len(shared.values))[1:]
            values.register_hook(_Mean(weights))  # type: ignore[no-untyped-call]
            self.register_buffer(parameter_name(node, "codes"), torch.from_numpy(shared.codes))
            self.register_parameter(parameter_name(node, "values"), values)
            self.register_parameter(parameter_name(node, "bias"), bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits float32 [N, classes] of normalised images [N, C, H, W]."""
        return logits_of(self._graph, x, self._own)

    def graph(self) -> Graph:
        """The float graph with the current weights and biases."""
        arrays: dict[str, np.ndarray] = {}
        with torch.no_grad():
            for node in self._layers:
                for what, tensor in zip(("weight", "bias"), self._own(node), strict=True):
                    arrays[f"{node.name}.{what}"] = tensor.cpu().numpy()
        return with_parameters(self._graph, arrays)

    def _own(self, node: Conv) -> tuple[Tensor, Tensor]:
        values = self.get_parameter(parameter_name(node, "values"))
        codes = self.get_buffer(parameter_name(node, "codes"))
        table = torch.cat([values.new_zeros(1), values])
        # index_select: its backward pass adds in a fixed order on a CPU, and a resumed run has to
        # end with the same bits
        weight = table.index_select(0, codes.reshape(-1).long()).reshape(codes.shape)
        return weight, self.get_parameter(parameter_name(node, "bias"))


class _Mean:
    """A gradient hook that turns the sum over the weights of a value into the mean."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = torch.from_numpy(weights).clamp(min=1).float()

    def __call__(self, grad: Tensor) -> Tensor:
        return grad / self.weights.to(grad.device)
