"""From a PyTorch module to the typed graph.

    graph = trace(cifar_resnet(20, 10), (3, 32, 32), mean, std)

It uses ``torch.export`` rather than ``torch.fx``: export runs the module on fake tensors, so that
all ways of writing the same operation (``F.relu``, ``nn.ReLU``, ``relu_``, ``+=``, a lambda,
``x.size(0)``, ``out.size()[3]`` as a kernel) become one of a few dozen ATen operators with known
shapes and the path of their module. ``torch.fx`` leaves shapes symbolic and keeps calls of
arbitrary Python functions in the graph, each of which would need its own case here.

The operators are in a table (graph/aten.py); any other operator is refused, naming it and the path
of its module.
"""

from __future__ import annotations

import copy
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import numpy as np
import torch
from torch import fx, nn

from gpw_cli.errors import UnsupportedError, UsageError
from gpw_cli.graph.aten import BATCH, FOLLOWERS, HANDLERS, NEEDS, SUPPORTED
from gpw_cli.graph.context import Context, operator_name, refused, result_shape
from gpw_cli.graph.frame import Shape
from gpw_cli.graph.ir import Graph, Input, Node, verify


def trace(
    model: nn.Module,
    input_shape: Shape,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Graph:
    """The verified graph of ``model`` in evaluation mode, for images [C, H, W].

    ``model`` is not changed. ``mean`` and ``std``: the normalisation of the images (default: 0 and
    1). Raises UnsupportedError for unsupported operators (all of them at once), several inputs or
    outputs, control flow that depends on the images, and an image size that the network does not
    accept.
    """
    channels = input_shape[0]
    source = Input(
        "input", input_shape, tuple(mean) or (0.0,) * channels, tuple(std) or (1.0,) * channels
    )
    return verify(_Tracer(model, _export(model, input_shape)).run(source))


def _export(model: nn.Module, input_shape: Shape) -> torch.export.ExportedProgram:
    still = copy.deepcopy(model).cpu().float().eval()
    images = torch.zeros(BATCH, *input_shape)
    try:
        with torch.no_grad(), redirect_stdout(sys.stderr):  # stdout is for results
            result = still(images)
        if not isinstance(result, torch.Tensor | tuple | list):
            raise UnsupportedError(
                f"{type(model).__name__} returns a {type(result).__name__}; one tensor is needed"
            )
        with torch.no_grad(), _quiet():
            exported = torch.export.export(still, (images,))
    except UsageError:
        raise
    except Exception as error:  # code of the user's own
        reason = (str(error).strip() or "no message").splitlines()[0]
        if "data-dependent" in reason:
            reason = "it decides by the values of the image, which no fixed program can"
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced on images of shape {input_shape}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    exported.graph.eliminate_dead_code()
    return exported


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is printed, warned or logged: torch.export prints its graph when it fails."""
    nowhere, level = io.StringIO(), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


class _Tracer:
    """Visits the exported operators once."""

    def __init__(self, model: nn.Module, exported: torch.export.ExportedProgram) -> None:
        self.exported, self.context = exported, Context(model)
        self.unknown: set[fx.Node] = set()  # made by a refused operator, not of an image's shape

    def run(self, source: Input) -> Graph:
        """The graph, with its tensors in execution order."""
        self.context.nodes[source.name] = source
        for op in self.exported.graph.nodes:
            if op.op == "placeholder":
                self._placeholder(op, source)
            elif op.op == "output":
                if self.context.refusals:
                    raise refused(type(self.context.model).__name__, self.context.refusals)
                output = self._output(op)  # may add the nodes of a view
                return Graph(tuple(self.context.nodes.values()), output)
            else:
                self._operator(op)
        raise AssertionError("an exported graph ends with its output")

    def _placeholder(self, op: fx.Node, source: Input) -> None:
        signature = self.exported.graph_signature
        tables = (
            signature.inputs_to_parameters,
            signature.inputs_to_buffers,
            signature.inputs_to_lifted_tensor_constants,
        )
        key = next((table[op.name] for table in tables if op.name in table), None)
        if key is None:
            self.context.names[op] = source.name
            return
        stored = self.exported.state_dict.get(key)
        tensor = self.exported.constants[key] if stored is None else stored
        self.context.store(op, tensor.detach())

    def _output(self, op: fx.Node) -> str:
        results = op.args[0]
        assert isinstance(results, tuple)
        last = results[0]
        if len(results) != 1 or not isinstance(last, fx.Node):
            raise UnsupportedError(f"the network returns {len(results)} tensors; one is needed")
        name = self.context.name_of(last, op)
        in_order = (np.diff(self.context.index(last).ravel()) == 1).all()
        whole = self.context.index(last).size == np.prod(self.context.nodes[name].shape)
        return name if in_order and whole else self.context.image(last, op).name

    def _operator(self, op: fx.Node) -> None:
        name = operator_name(op)
        seen = len(self.context.refusals)
        try:
            self._note(op, name, self._made(op, name))
        except UnsupportedError:
            if self.unknown & set(op.all_input_nodes) and name.removesuffix("_") in FOLLOWERS:
                del self.context.refusals[seen:]  # refused only because of an earlier operator
            self._stand_in(op)

    def _note(self, op: fx.Node, name: str, made: Node | str | None) -> None:
        if made is None:  # recorded as a view
            return
        if isinstance(made, str):  # the same tensor
            self.context.names[op] = made
            return
        self.context.nodes[made.name] = made
        if name.endswith("_"):
            self._replaced(op, made.name)
        self.context.names[op] = made.name

    def _replaced(self, op: fx.Node, name: str) -> None:
        """An operator in place: later readers of the old tensor read ``name``."""
        context, source = self.context, op.all_input_nodes[0]
        old, seen = context.names[source], context.views.get(source)
        for key in [key for key in context.names if context.names[key] == old]:
            if context.views.get(key) is seen:
                context.names[key] = name
                context.views.pop(key, None)
            elif any(user > op for user in key.users):
                context.refuse(op, "changes part of a tensor in place that is read again")

    def _made(self, op: fx.Node, name: str) -> Node | str | None:
        if self.context.evaluate(op):
            return None
        handler = HANDLERS.get(name.removesuffix("_"))
        if handler is None:
            needs = NEEDS.get(name.removesuffix("_"))
            why = f": {needs}" if needs else f" (supported: {SUPPORTED})"
            self.context.refuse(op, f"is not supported{why}")
        return handler(self.context, op)

    def _stand_in(self, op: fx.Node) -> None:
        """A tensor of the refused ``op``'s shape, so that later operators are checked too."""
        value = op.meta.get("val")
        shape = result_shape(op) if isinstance(value, torch.Tensor) else ()
        if len(shape) not in (2, 4) or shape[0] != BATCH:
            self.unknown.add(op)
            return
        high, wide = shape[2:] or (1, 1)
        image = (shape[1], high, wide)
        name = self.context.label(op)
        self.context.nodes[name] = Input(name, image, (), ())
        self.context.names[op] = name
