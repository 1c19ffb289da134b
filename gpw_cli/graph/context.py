"""The state of tracing, and access to the arguments of exported operators.

context = Context(model)
source = context.source(op)              # the node whose tensor ``op`` reads first
stride = pair(argument(op, "stride", 1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from gpw_cli.arrays import Floats, Int64
from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.frame import Pair
from gpw_cli.graph.ir import Node
from gpw_cli.graph.views import image_nodes, is_natural, natural


@dataclass(frozen=True)
class Refusal:
    """One operator that the graph cannot express."""

    operator: str
    where: str  # the path of its module
    why: str


def refused(network: str, refusals: Sequence[Refusal]) -> UnsupportedError:
    """One error for all ``refusals``: one line for a single one, else one line per kind."""
    if len(refusals) == 1:
        only = refusals[0]
        return UnsupportedError(f"operator {only.operator} at {only.where} {only.why}")
    kinds: dict[tuple[str, str], list[str]] = {}
    for one in refusals:
        kinds.setdefault((one.operator, one.why), []).append(one.where)
    lines = [
        f"  operator {operator} at {', '.join(dict.fromkeys(places))} {why}"
        for (operator, why), places in kinds.items()
    ]
    head = f"{network}: {len(refusals)} operators are not supported:"
    return UnsupportedError("\n".join([head, *lines]))


class Context:
    """The tensors made so far; ``names`` maps each operator to the tensor with its values.

    ``views``: operators that present that tensor in another order (graph/views.py); ``parts``:
    those that split it into several tensors.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.views: dict[fx.Node, Int64] = {}
        self.parts: dict[fx.Node, list[Int64]] = {}
        self._tensors: dict[fx.Node, str] = {}  # tensors made from views
        self.refusals: list[Refusal] = []
        self.names: dict[fx.Node, str] = {}
        self.arrays: dict[fx.Node, Floats] = {}  # parameters, buffers, values made from them
        self.tensors: dict[fx.Node, Tensor] = {}  # the same values in their own types
        self.nodes: dict[str, Node] = {}

    def refuse(self, op: fx.Node, why: str) -> NoReturn:
        """Records operator, module path and reason, and raises UnsupportedError with them."""
        where = module_path(op) or type(self.model).__name__
        self.refusals.append(Refusal(operator_name(op), where, why))
        raise refused(where, self.refusals[-1:])

    def store(self, op: fx.Node, tensor: Tensor) -> None:
        """Records that ``op`` is ``tensor`` for every image."""
        self.tensors[op] = tensor
        self.arrays[op] = tensor.double().numpy()

    def evaluate(self, op: fx.Node) -> bool:
        """Stores the result of ``op`` if it is computed from stored tensors alone."""
        sources = op.all_input_nodes
        if not sources or any(source not in self.tensors for source in sources):
            return False
        args, kwargs = fx.node.map_arg((op.args, op.kwargs), lambda node: self.tensors[node])
        made = op.target(*args, **kwargs)  # type: ignore[operator]
        if isinstance(made, Tensor):
            self.store(op, made.detach())
        return isinstance(made, Tensor)

    def name_of(self, value: object, op: fx.Node) -> str:
        """The tensor behind an argument of ``op``; a constant is refused."""
        if isinstance(value, fx.Node) and value in self.names:
            return self.names[value]
        self.refuse(op, f"takes {value!r}, which is not computed from the image")

    def source(self, op: fx.Node, position: int = 0) -> Node:
        """The node whose tensor is an argument of ``op``, as [C, H, W] or completely flat.

        A view becomes a node of its own; one that no node can express is refused.
        """
        return self.image(op.args[position], op)

    def image(self, value: object, op: fx.Node) -> Node:
        """``source`` for any value that ``op`` reads."""
        name = self.name_of(value, op)
        if not isinstance(value, fx.Node) or value not in self.views:
            return self.nodes[name]
        if value not in self._tensors:
            made = image_nodes(self.views[value], self.nodes[name], lambda: self.label(value))
            if made is None:
                shape = self.nodes[name].shape
                self.refuse(value, f"makes {result_shape(value)} of images of shape {shape}")
            self.nodes.update({node.name: node for node in made})
            self._tensors[value] = made[-1].name if made else name
        return self.nodes[self._tensors[value]]

    def index(self, value: fx.Node) -> Int64:
        """The position of each element of ``value`` in its tensor."""
        return self.views[value] if value in self.views else natural(result_shape(value)[1:])

    def see(self, op: fx.Node, name: str, index: Int64) -> None:
        """Records that ``op`` is the tensor ``name`` viewed through ``index``."""
        self.names[op] = name
        if not is_natural(index, self.nodes[name].shape):
            self.views[op] = index

    def array(self, value: object, op: fx.Node) -> Floats | None:
        """A parameter or buffer as float64; None where the argument is None."""
        if value is None:
            return None
        if not isinstance(value, fx.Node) or value not in self.arrays:
            self.refuse(op, "takes a weight that is computed, not stored")
        return self.arrays[value]

    def label(self, op: fx.Node) -> str:
        """The name of a new tensor: the module's path, and the operator if it has several."""
        path = module_path(op)
        leaf = bool(path) and not any(True for _ in self.model.get_submodule(path).children())
        short = operator_name(op).removesuffix("_")
        base = path if leaf else f"{path}.{short}".lstrip(".")
        name, count = base, 0
        while name in self.nodes:
            count += 1
            name = f"{base}_{count}"
        return name


def operator_name(op: fx.Node) -> str:
    """``conv2d`` of ``aten.conv2d.default``; a trailing underscore means in place."""
    target = op.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target.overloadpacket.__name__)
    return str(getattr(target, "__name__", target))


def module_path(op: fx.Node) -> str:
    """Path of the innermost module that ran ``op``; empty for the network itself."""
    stack = op.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def argument(op: fx.Node, name: str, default: Any = None) -> Any:
    """An argument of an ATen operator by its schema name."""
    schema = op.target._schema.arguments  # type: ignore[union-attr]
    position = [entry.name for entry in schema].index(name)
    if position < len(op.args):
        return op.args[position]
    return op.kwargs.get(name, default)


def pair(value: Any) -> Pair:
    """One number or a list of one or two, for rows and columns."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return int(values[0]), int(values[-1])


def result_shape(op: fx.Node) -> tuple[int, ...]:
    """The shape [N, ...] of the result of ``op``, or of its first result."""
    value = op.meta["val"]
    first = value[0] if isinstance(value, list | tuple) else value
    return tuple(int(size) for size in first.shape)
