"""PyTorch modules for ONNX nodes with weights: convolution, linear layer, batch norm.

layer = LAYERS["Conv"]({"pads": [1, 1, 1, 1]}, [weight, bias])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpw_cli.errors import UnsupportedError

Attributes = dict[str, Any]
Arrays = list[NDArray[Any]]
Value = Tensor | NDArray[Any] | None  # of a tensor of the file


def convolution(attributes: Attributes, stored: Arrays) -> nn.Module:
    """``Conv`` in two dimensions."""
    weight = stored[0]
    if weight.ndim != 4:
        raise UnsupportedError(f"ONNX Conv over {weight.ndim - 2} dimensions; only images run")
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    stride, dilation = _two(attributes, "strides"), _two(attributes, "dilations")
    pads = padding(attributes, kernel, stride, dilation)
    even = pads[:2] == pads[2:]
    groups = int(attributes.get("group", 1))
    layer = nn.Conv2d(
        int(weight.shape[1]) * groups,
        len(weight),
        kernel,
        stride,
        (pads[0], pads[1]) if even else 0,
        dilation,
        groups,
        bias=len(stored) > 1,
    )
    _fill(layer, stored)
    if even:
        return layer
    return nn.Sequential(nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])), layer)


def padding(
    attributes: Attributes, kernel: tuple[int, int], stride: tuple[int, int], dilation: Any = (1, 1)
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto == "NOTSET":
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        return int(top), int(left), int(bottom), int(right)
    if auto == "VALID":
        return 0, 0, 0, 0
    if stride != (1, 1):
        raise UnsupportedError(f"ONNX auto_pad={auto} with a stride; export it with explicit pads")
    whole = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
    less, more = [size // 2 for size in whole], [-(-size // 2) for size in whole]
    before, after = (less, more) if auto == "SAME_UPPER" else (more, less)
    return before[0], before[1], after[0], after[1]


def _two(attributes: Attributes, name: str) -> tuple[int, int]:
    first, second = attributes.get(name, [1, 1])
    return int(first), int(second)


def linear(attributes: Attributes, stored: Arrays) -> nn.Module:
    """``Gemm``."""
    if attributes.get("transA", 0):
        raise UnsupportedError("ONNX Gemm with transA; only x @ W + b runs")
    weight = stored[0] if attributes.get("transB", 0) else stored[0].T
    bias = [array.reshape(-1) * attributes.get("beta", 1.0) for array in stored[1:]]
    return _linear(weight * attributes.get("alpha", 1.0), bias)


def matmul(attributes: Attributes, stored: Arrays) -> nn.Module:
    """``MatMul`` by a stored matrix."""
    if stored[0].ndim != 2:
        raise UnsupportedError(f"ONNX MatMul by a tensor of shape {stored[0].shape}, no matrix")
    return _linear(stored[0].T, [])


def _linear(weight: NDArray[Any], bias: Arrays) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias))
    _fill(layer, [weight, *(np.broadcast_to(b, (weight.shape[0],)) for b in bias)])
    return layer


class _BatchNorm(nn.BatchNorm2d):
    """Of images and, behind a linear layer, of vectors: ONNX has one operator for both."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"batch norm of a tensor of {input.ndim} dimensions")


def batch_norm(attributes: Attributes, stored: Arrays) -> nn.Module:
    """``BatchNormalization``: scale, bias, mean, variance."""
    scale, bias, mean, variance = stored
    momentum = 1.0 - float(attributes.get("momentum", 0.9))
    layer = _BatchNorm(len(scale), float(attributes.get("epsilon", 1e-5)), momentum)
    _fill(layer, [scale, bias])
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(torch.from_numpy(mean))
    layer.running_var.copy_(torch.from_numpy(variance))
    return layer


def _fill(layer: nn.Module, stored: Arrays) -> None:
    with torch.no_grad():
        for name, array in zip(("weight", "bias"), stored, strict=False):
            layer.get_parameter(name).copy_(torch.from_numpy(np.array(array)))


LAYERS: dict[str, Callable[[Attributes, Arrays], nn.Module]] = {
    "Conv": convolution,
    "Gemm": linear,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
}
