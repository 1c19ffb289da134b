"""From an integer graph to one VTA program: ``network.compile_graph``."""
