"""The constants of an ONNX model: initialisers, and what nodes compute from them alone.

constants = constants_of(load_onnx(Path("net.onnx")))        # tensor name -> array

Exporters write weights as transposed, scaled or converted initialisers; onnx's own reference
evaluator computes those.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpw_cli.models.onnx_file import import_onnx

Array = np.ndarray[Any, Any]
_RANDOM = ("Random", "Bernoulli", "Multinomial")


def constants_of(model: Any) -> dict[str, Array]:
    """The arrays by tensor name."""
    to_array = import_onnx().numpy_helper.to_array
    found: dict[str, Array] = {tensor.name: to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        given = [name for name in node.input if name]
        nested = any(entry.HasField("g") or entry.graphs for entry in node.attribute)
        if nested or node.op_type.startswith(_RANDOM) or not {*given} <= {*found}:
            continue
        if node.op_type == "Identity":
            found[node.output[0]] = found[given[0]]
        else:
            values = _evaluated(model, node, {name: found[name] for name in given})
            found |= dict(zip(filter(None, node.output), values, strict=True))
    return found


def _evaluated(model: Any, node: Any, given: dict[str, Array]) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    helper = import_onnx().helper
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "constant", inputs, outputs)
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return [np.asarray(value) for value in ReferenceEvaluator(whole).run(None, given)]


def plain(array: Array) -> Array:
    """A copy in the byte order of this machine; whatever is no integer as float32."""
    whole = array.dtype.kind in "iub"
    return np.array(array, array.dtype.newbyteorder("=") if whole else np.float32)
