"""Passes over the float graph, each of which maps a verified graph to a verified graph.

    graph = fold(trace(model, (3, 32, 32)))      # without batch norm, one node per shortcut

Batch norm y = scale * x + shift is folded into the convolution before it (weight * scale per output
channel, in float64). After any other node it becomes a diagonal 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gpw_cli.graph.ir import BatchNorm, Conv, Graph, Node, Pad, inputs, renamed, verify
from gpw_cli.graph.rearrange import rearrange


def fold(graph: Graph) -> Graph:
    """``graph`` without BatchNorm, with runs of Pad nodes merged and moves made free.

    Raises UnsupportedError for pooling with windows of different sizes, except before a linear
    layer.
    """
    passes: tuple[Callable[[Graph], Graph], ...] = (fold_batch_norm, merge_pads, rearrange)
    for step in passes:
        graph = verify(step(graph))
    return graph


def fold_batch_norm(graph: Graph) -> Graph:
    """Folds every BatchNorm into the convolution before it, or into a new diagonal one."""
    done: list[Node] = []
    at: dict[str, int] = {}  # tensor of the old graph -> index of its producer in ``done``
    for old in graph.nodes:
        node = renamed(old, {name: done[at[name]].name for name in inputs(old)})
        if isinstance(node, BatchNorm):
            source = done[at[inputs(old)[0]]]
            if isinstance(source, Conv) and graph.only_consumer(inputs(old)[0]) is old:
                at[old.name] = at[inputs(old)[0]]
                done[at[old.name]] = _scaled(source, node)
                continue
            node = _diagonal(node)
        at[old.name] = len(done)
        done.append(node)
    return Graph(tuple(done), done[at[graph.output]].name)


def merge_pads(graph: Graph) -> Graph:
    """Merges runs of Pad nodes: ``F.pad`` of ``x[:, :, ::2, ::2]`` is one option-A shortcut."""
    done: list[Node] = []
    names: dict[str, str] = {}
    for old in graph.nodes:
        node = renamed(old, names)
        before = next((n for n in done if isinstance(node, Pad) and n.name == node.input), None)
        if isinstance(node, Pad) and isinstance(before, Pad) and _alone(graph, old):
            done[done.index(before)] = _joined(before, node)
            names[old.name] = before.name
        else:
            done.append(node)
            names[old.name] = node.name
    return Graph(tuple(done), names[graph.output])


def _alone(graph: Graph, node: Node) -> bool:
    return graph.only_consumer(inputs(node)[0]) is node


def _joined(first: Pad, second: Pad) -> Pad:
    stride = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
    before, after = first.before + second.before, first.after + second.after
    return replace(first, stride=stride, before=before, after=after, shape=second.shape)


def _scaled(conv: Conv, norm: BatchNorm) -> Conv:
    weight = conv.weight * norm.scale[:, None, None, None]
    return replace(conv, weight=weight, bias=conv.bias * norm.scale + norm.shift)


def _diagonal(norm: BatchNorm) -> Conv:
    weight = np.diag(norm.scale)[:, :, None, None]
    return Conv(norm.name, norm.input, weight, norm.shift, (1, 1), (0, 0), norm.shape)
