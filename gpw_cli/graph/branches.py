"""Residual branches: the convolutions beside a shortcut, all of which may be removed.

residual_branches(trace(model, (3, 32, 32)))      # [("layer1.0.conv1", "layer1.0.conv2"), ...]
"""

from __future__ import annotations

from gpw_cli.graph.ir import Add, Conv, Graph, inputs


def residual_branches(graph: Graph) -> list[tuple[str, ...]]:
    """For each addition, the names of the convolutions that only one of its operands needs.

    Where both operands have such convolutions (a projection shortcut), the branch is the operand
    with more of them. Additions without any, and those of a tensor to itself, are left out.
    """
    found = []
    for node in graph.nodes:
        if isinstance(node, Add) and node.a != node.b:
            sides = [_only_for(graph, side, node.name) for side in (node.a, node.b)]
            most = max(sides, key=len)
            if most:
                found.append(most)
    return found


def _only_for(graph: Graph, tensor: str, reader: str) -> tuple[str, ...]:
    """The convolutions whose results reach the rest of the network only through ``tensor``."""
    needed = {reader}
    found: list[str] = []
    for node in reversed(graph.nodes):
        readers = {consumer.name for consumer in graph.consumers(node.name)}
        inside = readers and readers <= needed and node.name != graph.output
        if inside and (node.name == tensor or reader not in readers) and inputs(node):
            needed.add(node.name)
            if isinstance(node, Conv):
                found.append(node.name)
    return tuple(reversed(found))
