"""Fusion: which float nodes become one integer node, and which tensors share a scale.

    plan = plan_fusion(graph, Fusion.add, wrap=False)
    plan.epilogues["layer1.0.conv2"]     # Epilogue(result="layer1.0.relu2", relu=True, residual=…)
    tied = tie_tensors(graph, plan, Residual.unify)

A convolution absorbs the nodes that follow it if nothing else reads the tensors in between: its
ReLU (papers/001, eq. 4), or an addition and its ReLU. If both summands are convolutions, the later
one absorbs the addition. A convolution whose shortcut is computed after it is placed behind the
shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpw_cli.config.quantizer import Fusion, Residual
from gpw_cli.graph.ir import Add, Clip, Conv, Graph, MaxPool, Node, Pad, ReLU
from gpw_cli.graph.moves import Concat, Select, Upsample


@dataclass(frozen=True)
class Epilogue:
    """What a convolution absorbs; ``result``: the float tensor that it then computes.

    ``clip``: (low, high) of a ``Clip`` at the end; ``relu`` is also set if low is 0.
    """

    result: str
    relu: bool = False
    residual: str | None = None
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class FusionPlan:
    """``epilogues`` by the name of the convolution or addition; ``absorbed``: nodes that vanish.

    ``wraps``: the node whose result is stored without a clip, if any.
    """

    epilogues: Mapping[str, Epilogue]
    absorbed: frozenset[str]
    wraps: str | None

    def stored(self, graph: Graph) -> list[Node]:
        """The nodes that become integer nodes, each after the nodes that it reads."""
        order = {node.name: float(index) for index, node in enumerate(graph.nodes)}
        for name, epilogue in self.epilogues.items():
            if epilogue.residual is not None:
                order[name] = max(order[name], order[epilogue.residual] + 0.5)
        left = [node for node in graph.nodes if node.name not in self.absorbed]
        return sorted(left, key=lambda node: order[node.name])

    def result(self, node: Node) -> str:
        """The float tensor that the integer node of ``node`` computes."""
        return self.epilogues[node.name].result if node.name in self.epilogues else node.name


def plan_fusion(graph: Graph, fusion: Fusion, *, wrap: bool) -> FusionPlan:
    """The plan for ``graph``; ``Fusion.none`` absorbs nothing.

    ``wrap``: as in TVM, the last addition has its ReLU on the accumulators and no clip.
    """
    last_add = next((n.name for n in reversed(graph.nodes) if isinstance(n, Add) and wrap), None)
    heads = {Fusion.none: (), Fusion.relu: (Conv,), Fusion.add: (Conv, Add)}[fusion]
    epilogues: dict[str, Epilogue] = {}
    absorbed: set[str] = set()
    wraps = last_add
    for node in reversed(graph.nodes):  # so that the later convolution of an addition absorbs it
        if not (isinstance(node, heads) or node.name == last_add) or node.name in absorbed:
            continue
        epilogue = Epilogue(node.name)
        if fusion is Fusion.add and isinstance(node, Conv):
            epilogue = _with_add(graph, node, absorbed)
        epilogue = _with_relu(graph, epilogue)
        epilogues[node.name] = epilogue
        swallowed = _between(graph, node.name, epilogue.result)
        wraps = node.name if last_add in swallowed else wraps
        absorbed |= swallowed
    kept = {name: epilogue for name, epilogue in epilogues.items() if name not in absorbed}
    return FusionPlan(kept, frozenset(absorbed), wraps)


def _with_add(graph: Graph, conv: Conv, absorbed: set[str]) -> Epilogue:
    after = graph.only_consumer(conv.name)
    if not isinstance(after, Add) or after.a == after.b or after.name in absorbed:
        return Epilogue(conv.name)
    return Epilogue(after.name, residual=after.b if after.a == conv.name else after.a)


def _with_relu(graph: Graph, epilogue: Epilogue) -> Epilogue:
    after = graph.only_consumer(epilogue.result)
    if isinstance(after, ReLU):
        return replace(epilogue, result=after.name, relu=True)
    if isinstance(after, Clip):
        limits = (after.low, after.high)
        return replace(epilogue, result=after.name, relu=after.low == 0, clip=limits)
    return epilogue


def _between(graph: Graph, first: str, last: str) -> set[str]:
    """Names after ``first`` up to ``last``, following the only consumer of each node."""
    names: set[str] = set()
    while first != last:
        after = graph.only_consumer(first)
        assert after is not None
        first = after.name
        names.add(first)
    return names


def tie_tensors(graph: Graph, plan: FusionPlan, residual: Residual) -> dict[str, str]:
    """Tensor -> the first tensor of its group; all tensors of a group have the same scale.

    Max pools, shortcuts and nodes that only move values keep the scale of their input.
    ``Residual.unify`` also ties the summands of additions that are not fused into a convolution.
    """
    leader = {node.name: node.name for node in graph.nodes}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for node in graph.nodes:
        if isinstance(node, MaxPool | Pad | Select | Upsample):
            leader[find(node.name)] = find(node.input)
        if isinstance(node, Concat):
            for part in node.parts:
                leader[find(node.name)] = find(part)
        if isinstance(node, Add) and node.name not in plan.absorbed and residual is Residual.unify:
            leader[find(node.b)] = find(node.a)
    return {name: find(name) for name in leader}
