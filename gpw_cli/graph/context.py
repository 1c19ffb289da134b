"""What tracing has found so far, and how to read an exported operator's arguments.

context = Context(model)
source = context.source(op)              # the node whose tensor ``op`` reads first
stride = pair(argument(op, "stride", 1))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx, nn

from gpw_cli.errors import UnsupportedError
from gpw_cli.graph.ir import Float, Node, Pair


@dataclass(frozen=True)
class Refusal:
    """One operator that the graph cannot express."""

    operator: str
    where: str  # path of its module
    why: str


def refused(network: str, refusals: Sequence[Refusal]) -> UnsupportedError:
    """All of ``refusals`` as one error: one line for a single one, else a line a kind."""
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
    """The tensors made so far: ``names`` maps each operator to the tensor that carries it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.refusals: list[Refusal] = []
        self.names: dict[fx.Node, str] = {}
        self.arrays: dict[fx.Node, Float] = {}  # parameters and buffers
        self.nodes: dict[str, Node] = {}

    def refuse(self, op: fx.Node, why: str) -> NoReturn:
        """Notes operator, module path and reason, and raises UnsupportedError with them."""
        where = module_path(op) or type(self.model).__name__
        self.refusals.append(Refusal(operator_name(op), where, why))
        raise refused(where, self.refusals[-1:])

    def name_of(self, value: object, op: fx.Node) -> str:
        """The tensor behind an argument of ``op``; a constant is refused."""
        if isinstance(value, fx.Node) and value in self.names:
            return self.names[value]
        self.refuse(op, f"takes {value!r}, which is not computed from the picture")

    def source(self, op: fx.Node) -> Node:
        """The node whose tensor is the first argument of ``op``."""
        return self.nodes[self.name_of(op.args[0], op)]

    def array(self, value: object, op: fx.Node) -> Float | None:
        """A parameter or buffer as float64, None where the argument is None."""
        if value is None:
            return None
        if not isinstance(value, fx.Node) or value not in self.arrays:
            self.refuse(op, "takes a weight that is computed, not stored")
        return self.arrays[value]

    def label(self, op: fx.Node) -> str:
        """A new tensor's name: the module's path, with the operator where the module holds more."""
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
    """Shape [N, ...] of what ``op`` makes."""
    return tuple(int(size) for size in op.meta["val"].shape)
