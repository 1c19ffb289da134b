"""An ONNX model under construction.

    writer = OnnxWriter()
    writer.op("Relu", ["image"], "positive")
    onnx.save(writer.model("image", (3, 32, 32), "positive"), "net.onnx")

Tensors are named by the caller, initialisers after the tensors that they belong to. Needs the extra
``onnx``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpw_cli.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
Array = NDArray[Any]


class OnnxWriter:
    """Collects nodes and initialisers. Raises UsageError without the onnx package."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            raise UsageError(
                "writing ONNX needs the onnx package: pip install 'gpw[onnx]'"
            ) from None
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []

    def array(self, name: str, value: Array | np.generic) -> str:
        """Adds an initialiser; returns its name."""
        whole = np.array(value, order="C")
        self.arrays.append(self.onnx.numpy_helper.from_array(whole, name))
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        made = self.onnx.helper.make_node(kind, list(inputs), [output], output, **attributes)
        self.nodes.append(made)
        return output

    def clip(self, source: str, name: str, low: float, high: float, output: str) -> str:
        """Adds a Clip, whose limits are named after ``name``; returns ``output``."""
        ends = (("low", low), ("high", high))
        limits = [self.array(f"{name}.{end}", np.float32(value)) for end, value in ends]
        return self.op("Clip", [source, *limits], output)

    def quantized(
        self, source: str, name: str, scale: float, low: int, high: int, less: float = 0.0
    ) -> None:
        """``name`` is ``source`` quantized to int8 codes in ``low`` .. ``high`` and dequantized.

        ``less``: the scale of QuantizeLinear is smaller by this share.
        """
        step = self.array(f"{name}.scale", np.float32(scale))
        towards = self.array(f"{name}.towards", np.float32(scale * (1 - less))) if less else step
        zero = self.array(f"{name}.zero", np.int8(0))
        if (low, high) != (-128, 127):  # QuantizeLinear saturates at these limits
            source = self.clip(source, name, low * scale, high * scale, f"{name}.clipped")
        self.op("QuantizeLinear", [source, towards, zero], f"{name}.codes")
        self.op("DequantizeLinear", [f"{name}.codes", step, zero], name)

    def model(self, source: str, shape: tuple[int, int, int], output: str) -> ModelProto:
        """The checked model: ``source`` [N, *shape] -> ``logits`` [N, classes]."""
        onnx, helper = self.onnx, self.onnx.helper
        self.op("Flatten", [output], "logits", axis=1)
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "gpw",
            [helper.make_tensor_value_info(source, kind, ["N", *shape])],
            [helper.make_tensor_value_info("logits", kind, ["N", None])],
            self.arrays,
        )
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, producer_name="gpw", ir_version=9)
        onnx.checker.check_model(made, full_check=True)
        return made  # type: ignore[no-any-return]
