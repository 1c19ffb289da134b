"""Quantize a traced float graph with its calibration ranges to an integer graph.

    graph = prepare(trace(model, shape, mean, std), cfg)
    ranges = calibrate(graph, batches, cfg)
    unfused = quantize_graph(graph, ranges, cfg, fused=False)     # every node is stored
    fused = quantize_graph(graph, ranges, cfg, fused=True)        # fused as cfg.fusion says

Unfused, the output of a convolution is quantized with its own scale S_y and that of its ReLU with
S_a. Fused, the convolution is quantized with S_a directly (papers/001, eq. 4), which saves one
rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpw_cli.config.quantizer import Fusion, QuantizerConfig
from gpw_cli.graph.compact import compact
from gpw_cli.graph.dead import remove_dead
from gpw_cli.graph.equalise import equalise
from gpw_cli.graph.fold import fold
from gpw_cli.graph.integer import IntGraph
from gpw_cli.graph.integer_verify import verify_integer
from gpw_cli.graph.ir import Graph
from gpw_cli.quantization.activations import activation_scales
from gpw_cli.quantization.builder import NodeBuilder
from gpw_cli.quantization.headroom import idle_bits
from gpw_cli.quantization.plan import FusionPlan, plan_fusion
from gpw_cli.quantization.ranges import Ranges


def prepare(
    graph: Graph, cfg: QuantizerConfig, *, keep_dead: bool = False, packed: bool = False
) -> Graph:
    """The float graph to calibrate and quantize: batch norms folded, equalised if ``cfg`` says so.

    Dead nodes are removed (gpw_cli/graph/dead.py) unless ``keep_dead``. ``packed``: channels that
    are zero are removed as well, and the others moved together (gpw_cli/graph/compact.py).
    """
    folded = fold(graph) if keep_dead else remove_dead(fold(graph))
    if packed:
        folded = compact(folded)
    return equalise(folded) if cfg.equalise else folded


def quantize_graph(
    graph: Graph,
    ranges: Ranges,
    cfg: QuantizerConfig,
    fused: bool,
    scales: Mapping[str, float] | None = None,
) -> IntGraph:
    """The verified integer graph of a ``graph`` from ``prepare``.

    scales: the result of ``tensor_scales`` for the same arguments, if known; ``cfg.headroom`` then
    has no effect. Raises UnsupportedError for an addition whose summands have scales that do not
    differ by a power of two.
    """
    plan = _plan(graph, cfg, fused)
    if scales is not None:
        return _built(NodeBuilder(graph, ranges, cfg, plan, scales))
    scales = activation_scales(graph, ranges, cfg, plan)
    builder = NodeBuilder(graph, ranges, cfg, plan, scales)
    result = _built(builder)
    bits = idle_bits(result, cfg.headroom) if fused and cfg.headroom else {}
    if not bits:
        return result
    raised = {n: s * 2.0 ** bits.get(builder.names.get(n, ""), 0) for n, s in scales.items()}
    return _built(NodeBuilder(graph, ranges, cfg, plan, raised))


def _built(builder: NodeBuilder) -> IntGraph:
    """The verified graph of all nodes that the builder's fusion plan stores."""
    graph = builder.graph
    nodes = tuple(builder.node(node) for node in builder.plan.stored(graph))
    source = graph.input
    result = IntGraph(nodes, builder.names[graph.output], builder.stored, source.mean, source.std)
    return verify_integer(result)


def tensor_scales(
    graph: Graph, ranges: Ranges, cfg: QuantizerConfig, fused: bool
) -> dict[str, float]:
    """The scale of every tensor that ``quantize_graph`` stores, by its float name."""
    return activation_scales(graph, ranges, cfg, _plan(graph, cfg, fused))


def _plan(graph: Graph, cfg: QuantizerConfig, fused: bool) -> FusionPlan:
    return plan_fusion(graph, cfg.fusion if fused else Fusion.none, wrap=cfg.wrap_last_add)
