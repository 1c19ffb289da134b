"""A float graph as a PyTorch module, for saving or tracing what is left of a pruned network.

module = GraphModule(remove_dead(fold(trace(model, (3, 32, 32)))))
torch.export.save(torch.export.export(module, (images,)), "net.pt2")     # loads without gpw
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpw_cli.graph.floating import compute
from gpw_cli.graph.ir import Conv, Graph, Input
from gpw_cli.graph.ir import inputs as inputs_of


class GraphModule(nn.Module):
    """float32 images [N, C, H, W], normalised as for the network -> logits [N, classes].

    The weights are parameters named after their layers, with underscores for dots.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        for node in graph.nodes:
            if isinstance(node, Conv):
                for leaf, value in (("weight", node.weight), ("bias", node.bias)):
                    tensor = torch.from_numpy(value).float().contiguous()
                    self.register_parameter(parameter_name(node, leaf), nn.Parameter(tensor))

    def forward(self, x: Tensor) -> Tensor:
        """Runs the nodes in order."""
        return logits_of(self.graph, x, self._own)

    def _own(self, node: Conv) -> tuple[Tensor, Tensor]:
        weight, bias = (self.get_parameter(parameter_name(node, k)) for k in ("weight", "bias"))
        return weight, bias


def logits_of(graph: Graph, x: Tensor, own: Callable[[Conv], tuple[Tensor, Tensor]]) -> Tensor:
    """Logits [N, classes] of images [N, C, H, W]; ``own``: weight and bias of a convolution."""
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        if isinstance(node, Input):
            tensors[node.name] = x
        elif isinstance(node, Conv):
            source = tensors[inputs_of(node)[0]]
            tensors[node.name] = F.conv2d(source, *own(node), node.stride, node.padding)
        else:
            tensors[node.name] = compute(node, tensors)
    return tensors[graph.output].flatten(1)


def parameter_name(node: Conv, leaf: str) -> str:
    """``layer1_0_conv1_weight``: a parameter's name may not contain dots."""
    return f"{node.name}.{leaf}".replace(".", "_")
