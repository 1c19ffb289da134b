"""The network as a small typed graph: tracing, batch norm folding, verification, integers."""
