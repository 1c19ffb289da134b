"""The weights and biases of a graph's convolutions by name.

arrays = parameters(graph)                 # {"layer1.0.conv1.weight": [O, I, KH, KW], ...}
with_parameters(graph, arrays)             # the same graph with those numbers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.arrays import Floats
from gpw_cli.graph.ir import Conv, Graph


def parameters(graph: Graph) -> dict[str, Floats]:
    """Name and ``weight`` or ``bias`` -> float64 array."""
    return {
        f"{node.name}.{what}": value
        for node in graph.nodes
        if isinstance(node, Conv)
        for what, value in (("weight", node.weight), ("bias", node.bias))
    }


def with_parameters(graph: Graph, arrays: Mapping[str, NDArray[Any]]) -> Graph:
    """``graph`` with ``arrays``, of any float type, in place of its own parameters.

    Raises KeyError for a missing array, ValueError for one of another shape.
    """

    def taken(name: str, own: Floats) -> Floats:
        if arrays[name].shape != own.shape:
            raise ValueError(f"{name}: shape {arrays[name].shape}, the graph's is {own.shape}")
        return arrays[name].astype(np.float64)

    nodes = (
        replace(
            node,
            weight=taken(f"{node.name}.weight", node.weight),
            bias=taken(f"{node.name}.bias", node.bias),
        )
        if isinstance(node, Conv)
        else node
        for node in graph.nodes
    )
    return Graph(tuple(nodes), graph.output)
