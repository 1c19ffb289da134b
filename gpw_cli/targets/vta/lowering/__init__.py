"""From an integer graph to one VTA program: ``compile_graph(graph, spec)``."""

from gpw_cli.targets.vta.lowering.network import compile_graph

__all__ = ["compile_graph"]
